import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import run_denoiser
import torch

from invkit.artifacts import load, read_sidecar, sha256_file
from invkit.denoisers.loaded import load_denoiser
from invkit.errors import ConfigError, DataError, SplitError, UnknownNameError, UsageError
from invkit.training.processes.interrupt import Interrupted
from invkit.workflow.run import run

ITEMS = [
    "denoiser small",
    "vae low",
    "cinn low input",
    "cinn low const",
    "cinn low small 1",
    "layer low small 1",
    "report low small",
    "manifest",
]


@pytest.fixture(scope="module")
def host():
    return run_denoiser.host()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, host):
    """The folder of a run that nothing disturbed, and what the call returned."""
    folder = tmp_path_factory.mktemp("run") / "undisturbed"
    return folder, run(run_denoiser.config(), folder, host=host)


@pytest.fixture
def copied(undisturbed, tmp_path):
    """A copy of that folder."""
    folder = tmp_path / "copied"
    subprocess.run(["cp", "-r", undisturbed[0], folder], check=True)
    return folder


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def content(folder):
    """The bytes of every file that holds no time, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and path.relative_to(folder).parts[0] != "logs"
        and path.suffix != ".lock"
        and path.name != "plan.json"
    }


def test_everything_is_done_in_the_order_of_the_slides(undisturbed):
    folder, outcome = undisturbed
    assert list(outcome.done) == ITEMS
    found = manifest(folder)
    assert [*found["items"]] == [name for name in ITEMS if name not in ("layer low small 1", "manifest")]
    assert (
        found["data"]["description"]
        == "14 built-in phantoms (seed 0), noise simulated on the rays of a scanner"
    )
    assert found["config"] == sha256_file(folder / "config.json")
    assert found["threads"] == torch.get_num_threads()


def test_the_manifest_holds_the_sha256_of_every_output(undisturbed):
    folder, _ = undisturbed
    files = {
        name: sha256 for item in manifest(folder)["items"].values() for name, sha256 in item["files"].items()
    }
    aside = ("items", "logs", "manifest.json", "config.json")
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] not in aside
    }
    there -= {name for name in there if name.startswith(("cache/real/", "cache/bank/"))}  # to save time only
    assert files.keys() == there
    assert {name.partition("/")[0] for name in there} == {"cache", "denoisers", "reports"}
    assert all(sha256_file(folder / name) == sha256 for name, sha256 in files.items())
    logs = {path.name for path in (folder / "logs").iterdir()}
    assert logs >= {"denoiser-small-1.jsonl", "vae-low-1.jsonl", "cinn-low-small-1-1.jsonl"}


def test_later_steps_use_the_weights_that_were_trained(undisturbed, host):
    folder, outcome = undisturbed
    trained = load(folder / "denoisers/small.safetensors", kind="denoiser")
    assert trained.meta["recipe"]["steps"] == 8
    untrained = load_denoiser(host.denoiser("small")[0], untrained_seed=0)
    network = untrained.network
    network.load_state_dict(trained.tensors)
    judge = type(untrained)(untrained.spec, network, weights_tag="run")
    samples = load(folder / "reports/low/small/samples.safetensors", kind="samples")
    assert samples.meta["denoiser"]["sha256"] == judge.sha256 != untrained.sha256
    assert samples.tensors["layer0.samples"].shape == (2, 2, 1, 32, 32)
    assert (samples.tensors["f_x"] - judge(samples.tensors["x"])).abs().max() == 0
    report = outcome.reports[0]
    assert (report.model, report.domain) == ("small", "low")
    assert report.path.is_file()
    assert (report.path.parent / "image-2/report.html").is_file()


def test_high_dose_images_have_a_vae_and_cinns_of_their_own(tmp_path, host, monkeypatch):
    for module in ("write", "html"):
        monkeypatch.setattr(f"invkit.report.{module}.plates", lambda data: ())
    config = run_denoiser.config(domains=["high"], noise="image", images={"count": 1, "size": 32})
    outcome = run(config, tmp_path, host=host)
    denoiser, vae, *others = ITEMS
    assert list(outcome.done) == [
        *(denoiser, vae, vae.replace("low", "high")),
        *(name.replace("low", "high") for name in others),
    ]
    cinns = [read_sidecar(path)["meta"] for path in (tmp_path / "cache/cinn").glob("*.safetensors")]
    assert [meta["domain"] for meta in cinns] == ["high"] * 3
    (report,) = outcome.reports
    assert (report.model, report.domain) == ("small", "high")
    (layer,) = json.loads((report.path.parent / "report.json").read_text())["layers"]
    assert {"samples", "true_y"} <= layer["metrics"]["fiber_error"].keys()


def test_a_finished_run_trains_nothing(copied, host):
    events = []
    outcome = run(run_denoiser.config(), copied, host=host, progress=events.append)
    assert outcome.done == ()
    assert events == []


def test_a_damaged_output_is_made_again_and_is_the_same(copied, undisturbed, host):
    path = next((copied / "cache/cinn").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (copied / "reports/low/small/report.json").unlink()
    said = []
    outcome = run(run_denoiser.config(), copied, host=host, say=said.append)
    assert outcome.done[0].startswith("cinn low")
    assert outcome.done[1:] == ("layer low small 1", "report low small")
    assert said[0].endswith("items were done before")
    assert content(copied) == content(undisturbed[0])


def test_a_run_that_is_interrupted_in_every_kind_of_training_ends_the_same(undisturbed, tmp_path, host):
    config = run_denoiser.config()
    for stage, step in [("training", 4), ("VAE (low dose)", 2), ("regressor", 1), ("const: flow", 3)]:

        def interrupt(event, stage=stage, step=step):
            if event.stage.endswith(stage) and event.step >= step:
                raise Interrupted(signal.SIGTERM)

        with pytest.raises(Interrupted):
            run(config, tmp_path, host=host, progress=interrupt)
        assert not (tmp_path / "manifest.json").exists()
    outcome = run(config, tmp_path, host=host)
    assert list(outcome.done) == ITEMS[3:]
    assert content(tmp_path) == content(undisturbed[0])


@pytest.mark.slow
def test_kill_9_again_and_again_changes_no_output(tmp_path):
    script = str(Path(run_denoiser.__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder):
        return subprocess.Popen([sys.executable, script, str(folder)], env=environment)

    assert start(tmp_path / "undisturbed").wait() == 0
    wanted = content(tmp_path / "undisturbed")
    killed = tmp_path / "killed"
    kills = 0
    for round_ in range(60):
        process = start(killed)
        try:
            process.wait(timeout=6 + 1.5 * round_)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert process.returncode == 0
    assert kills > 0
    assert content(killed) == wanted


def test_a_changed_configuration_is_refused_with_the_field(copied, host):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*") if path.suffix != ".lock"}
    with pytest.raises(ConfigError, match=r"samples was 2, now it is 3\. Continue with the same"):
        run(run_denoiser.config(samples=3), copied, host=host)
    with pytest.raises(ConfigError, match=r'denoisers.small.layers was \["1"\], now it is \["1", "2"\]'):
        run(run_denoiser.config(denoisers={"small": {"layers": ["1", "2"]}}), copied, host=host)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_data_are_refused(copied, monkeypatch):
    source = run_denoiser.load_slices
    monkeypatch.setattr(run_denoiser, "load_slices", lambda specs, seed, cache: source(specs, seed=seed + 1))
    with pytest.raises(ConfigError, match=r'description was "14 .*seed 0.*", now it is "14 .*seed 1'):
        run(run_denoiser.config(), copied, host=run_denoiser.host())


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"denoisers": {"smal": {"layers": ["1"]}}}, UnknownNameError, "did you mean 'small'"),
        ({"denoisers": {"fixed": {"layers": ["1"]}}}, ConfigError, "denoisers.fixed cannot be trained"),
        ({"denoisers": {"small": {"layers": ["9"]}}}, SplitError, "9"),
        ({"data": ["nowhere"]}, DataError, "nowhere does not exist"),
        ({"data": ["bodies:2"]}, DataError, "give data from more patients"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_trained(changes, error, message, tmp_path, host):
    with pytest.raises(error, match=message):
        run(run_denoiser.config(**changes), tmp_path / "run", host=host)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_refused(tmp_path, host):
    (tmp_path / "thesis.tex").write_text("do not touch")
    with pytest.raises(UsageError, match="contains files, but no run"):
        run(run_denoiser.config(), tmp_path, host=host)
