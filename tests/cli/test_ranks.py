import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_ranks import ended_well, forked

from invkit.artifacts import load, read_sidecar

# Norm of the difference of any tensor over its norm. Rounding differs where a sum is taken in parts; VAEs and cINNs are stored
# in half precision, and regressors are trained in bfloat16.
SAME = {"denoiser": 1e-4, "vae-fp32": 1e-2, "cinn": 5e-2}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "others", "train")


def same_training(what, one, other):
    stored = [load(Path(found["out"]), kind=what.removesuffix("-fp32")) for found in (one, other)]
    assert stored[0].tensors.keys() == stored[1].tensors.keys()
    for name, values in stored[0].tensors.items():
        apart = (stored[1].tensors[name].double() - values.double()).norm() / values.double().norm().clamp(
            min=1e-12
        )
        assert apart < SAME[what], f"{name}: {apart:.2g}"
    metas = [found.meta for found in stored]
    assert metas[0]["key"] == metas[1]["key"]
    assert metas[0]["steps"] == metas[1]["steps"]
    return metas


def test_a_training_shared_by_two_is_that_of_one(quick):
    trained = quick["train"]["denoiser"]
    for found in trained.values():
        ended_well(found)
    same_training("denoiser", trained["1"], trained["2"])


def test_a_command_that_is_the_first_processs_alone_runs_once(quick):
    first, second = quick["others"]["models"]
    assert json.loads(first["stdout"])["schema"] == "invkit.models/1"
    assert (first["code"], second["code"]) == (0, 0)
    assert second["stdout"] == second["stderr"] == ""
    assert [one["code"] for one in quick["others"]["help"]] == [0, 0]


@pytest.mark.parametrize(
    ("case", "code", "message"),
    [
        ("usage", 2, "Invalid value for '--samples'"),
        ("lost", 3, "lost.npy"),
        ("device", 2, "there is no device 'cuda:99' here"),
        ("folder", 2, "several processes work in one folder: name it with --out"),
    ],
)
def test_all_end_with_the_same_code_and_one_message(case, code, message, quick):
    first, second = quick["others"][case]
    assert (first["code"], second["code"]) == (code, code)
    assert message in first["stderr"]
    assert first["stderr"].count("Error:") == 1
    assert second["stdout"] == second["stderr"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("world", ["2", "4"])
@pytest.mark.parametrize("what", ["denoiser", "vae-fp32", "cinn"])
def test_every_training_comes_out_the_same_at_an_equal_global_batch(slow, what, world):
    trained = slow["train_all"][what]
    for found in trained.values():
        ended_well(found)
    metas = same_training(what, trained["1"], trained[world])
    if what == "vae-fp32":
        assert metas[1]["held_out"]["rmse_hu"] == pytest.approx(metas[0]["held_out"]["rmse_hu"], rel=1e-5)
    if what == "cinn":
        assert metas[1]["nll"] == pytest.approx(metas[0]["nll"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["2", "4"])
def test_a_vae_in_bfloat16_is_as_good_shared(slow, world):
    rmse = [
        read_sidecar(Path(slow["train_all"]["vae"][count]["out"]))["meta"]["held_out"]["rmse_hu"]
        for count in ("1", world)
    ]
    assert rmse[1] == pytest.approx(rmse[0], rel=0.01)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return forked(tmp_path_factory.mktemp("ranks"), "train_all", timeout=3000)


@pytest.mark.slow
def test_torchrun_starts_the_command(tmp_path):
    out = tmp_path / "chen.safetensors"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "invkit"),
            *("train", "denoiser", "chen2017", "--preset", "tiny", "--train-data", "phantoms:14"),
            *("--train-noise", "image", "--out", out),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "INVKIT_CACHE": str(tmp_path / "cache")},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout == f"{out.resolve()}\n"
    assert load(out, kind="denoiser").meta["name"] == "chen2017"
