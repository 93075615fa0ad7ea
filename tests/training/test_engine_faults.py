"""Faults 1 to 6 and 9: kill -9, lost processes, signals, a full disk, damaged files, two at once, another world."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import forked_faults
import pytest
from tiny_training import Crash, TinyTask, config, crash_at, train

from invkit.errors import ResourceError
from invkit.training.checkpoint import CheckpointWarning
from invkit.training.engine import fit
from invkit.training.processes.interrupt import Interrupted

SCENARIOS = (
    "kill",
    "sigterm",
    "disk_full",
    "read_only",
    "two_at_once",
    "ranks",
    "rank_dies",
    "rank_is_stopped",
    "precisions",
)


def run_scenarios(*names):
    # In memory where that is possible: thousands of fsyncs take minutes on a busy disk.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, Path(forked_faults.__file__), folder, *names],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def scenarios():
    return run_scenarios(*SCENARIOS)


def test_fault_1_kill_9_at_steps_and_inside_writes_ends_bit_identical(scenarios):
    assert scenarios["kill"]["wrong"] == []
    assert scenarios["kill"]["kills"] >= 20


@pytest.mark.slow
def test_fault_1_kill_9_at_every_point():
    result = run_scenarios("kill_everywhere")["kill_everywhere"]
    assert result["wrong"] == []
    assert result["kills"] >= 200


def test_fault_2_two_processes_give_what_one_gives(scenarios):
    alone, together = scenarios["ranks"]["alone"], scenarios["ranks"]["together"]
    assert [code for code, _ in together] == [0, 0]
    first, second = (answer for _, answer in together)
    assert first["weights"] == second["weights"] == pytest.approx(alone["weights"], abs=1e-5)
    assert (first["steps"], second["steps"]) == (12, 12)
    assert first["best_step"] == second["best_step"] == alone["best_step"]
    assert first["metrics"] == second["metrics"]
    for one, two in zip(map(json.loads, alone["story"]), map(json.loads, first["story"]), strict=True):
        if "training" in one:
            assert two["training"]["main/loss"] == pytest.approx(one["training"]["main/loss"], abs=1e-5)
            assert (one["training"]["main/rank"], two["training"]["main/rank"]) == (0.0, 0.5)


def test_fault_2_when_one_process_dies_the_other_ends_with_a_code_and_both_go_on(scenarios):
    result = scenarios["rank_dies"]
    (code, answer), (killed, _) = result["first"]
    assert killed == -signal.SIGKILL
    assert code == 6
    assert "lost contact" in answer
    assert result["second"] == result["reference"]


def test_fault_3_a_signal_to_one_process_stops_both_at_the_same_step(scenarios):
    result = scenarios["rank_is_stopped"]
    assert [code for code, _ in result["stopped"]] == [143, 143]
    assert all("after step 7 of 12" in answer for _, answer in result["stopped"])
    assert "step-000000007.json" in result["files"]
    assert result["resumed"] == result["reference"]


def test_processes_of_one_training_compute_in_the_precision_of_the_first(scenarios):
    for first, ended in scenarios["precisions"].items():
        assert ended == [[0, [f"torch.{first}"]]] * 2


def test_fault_7_nan_in_one_process_ends_both(scenarios):
    result = scenarios["rank_is_stopped"]["diverged"]
    assert [code for code, _ in result] == [5, 5]
    assert all("step 9: loss nan" in answer for _, answer in result)


def test_fault_9_another_number_of_processes_is_allowed_and_recorded(scenarios):
    answer = scenarios["rank_is_stopped"]["another_world"]
    alone = scenarios["ranks"]["alone"]
    assert not answer["exact"]
    assert answer["weights"] == pytest.approx(alone["weights"], abs=1e-5)
    events = [line for line in map(json.loads, answer["story"]) if "event" in line]
    assert [(line["step"], line["changed"]) for line in events] == [(7, {"processes": [2, 1]})]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_fault_3_a_signal_writes_a_checkpoint_and_the_resumed_run_is_identical(tmp_path, number, code):
    reference = train(tmp_path / "reference")

    def before(step):
        if step == 4:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match="after step 5 of 12") as caught:
        train(tmp_path / "run", before=before)
    assert caught.value.exit_code == code
    assert (tmp_path / "run" / "checkpoints" / "step-000000005.json").exists()
    assert signal.getsignal(number) is handler
    assert train(tmp_path / "run") == reference


@pytest.mark.parametrize("step", [6, 12])
def test_fault_3_a_signal_during_an_evaluation_is_not_lost(tmp_path, step):
    class Signalled(TinyTask):
        def evaluate(self, now):
            if now == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate(now)

    with pytest.raises(Interrupted, match="is done" if step == 12 else "after step 6 of 12"):
        fit(Signalled(12), config(), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:09d}.json").exists()
    assert train(tmp_path / "run") == train(tmp_path / "reference")


def test_fault_3_sigterm_to_a_process_ends_it_with_143_after_a_checkpoint(scenarios):
    result = scenarios["sigterm"]
    assert result["code"] == 143
    assert "goes on from the checkpoint" in result["answer"]
    assert "step-000000007.json" in result["files"]


def test_fault_3_a_second_ctrl_c_ends_at_once(tmp_path):
    def before(step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", before=before)
    assert not (tmp_path / "run" / "checkpoints" / "step-000000006.json").exists()
    assert train(tmp_path / "run") == train(tmp_path / "reference")


def test_fault_4_a_full_disk_is_one_typed_error_and_the_last_checkpoint_is_intact(scenarios):
    result = scenarios["disk_full"]
    assert result["code"] == 6
    assert "cannot write" in result["answer"]
    assert result["files"] == [
        f"step-00000000{step}.{kind}" for step in (0, 4) for kind in ("json", "safetensors")
    ]
    assert result["same"]


def test_fault_4_a_read_only_folder_is_one_typed_error_and_keeps_its_checkpoints(scenarios):
    result = scenarios["read_only"]
    assert result["code"] == 6
    assert "cannot write" in result["answer"]
    assert result["same_files"]
    assert result["goes_on"]


def test_fault_4_a_folder_that_cannot_be_made_is_one_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError) as caught:
        train(tmp_path / "file" / "run")
    assert caught.value.exit_code == 6


def test_fault_5_a_damaged_checkpoint_costs_steps_not_exactness(tmp_path):
    reference = train(tmp_path / "reference")
    with pytest.raises(Crash):
        train(tmp_path / "run", before=crash_at(10))
    newest = tmp_path / "run" / "checkpoints" / "step-000000008.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    seen = []
    with pytest.warns(CheckpointWarning, match="step 8 is refused"):
        result = train(tmp_path / "run", before=seen.append)
    assert min(seen) == 4
    assert result == reference


def test_fault_5_when_all_are_damaged_it_begins_anew_and_says_so(tmp_path):
    reference = train(tmp_path)
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.warns(CheckpointWarning):
        assert train(tmp_path) == reference


def test_fault_6_two_processes_on_one_folder_train_once(scenarios):
    assert scenarios["two_at_once"] == {"steps": [0, 12], "same": True}
