import json
import os
import subprocess
import sys
from pathlib import Path

import forked_ranks
import pytest

from invkit.errors import ConfigError, UsageError
from invkit.training.device import usable_device
from invkit.training.processes.group import process_group
from invkit.training.processes.launch import Launch, launched

NAMES = ("place", "failures", "batch", "files")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each scenario of `forked_ranks.py` came to."""
    script = Path(forked_ranks.__file__)
    result = subprocess.run(
        [sys.executable, script, tmp_path_factory.mktemp("ranks"), *NAMES],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("told", ["torchrun", "srun"])
def test_each_process_knows_its_place(found, told):
    assert [one["answer"] for one in found["place"][told]] == [[0, 2], [1, 2]]


@pytest.mark.parametrize(
    ("case", "who", "error", "code"),
    [
        ("first_fails", 0, "DivergedError", 5),
        ("last_fails", 2, "SplitError", 4),
        ("while_they_work", 1, "DivergedError", 5),
        ("when_they_have_ended", 1, "DivergedError", 5),
    ],
)
def test_all_end_with_the_error_of_the_one_that_fails(found, case, who, error, code):
    ranks = found["failures"][case]
    assert [(one["error"], one["code"]) for one in ranks] == [(error, code)] * 3
    messages = [one["message"] for one in ranks]
    own = messages.pop(who)
    assert messages == [f"process {who}: {own}"] * 2
    assert max(one["seconds"] for one in ranks) < 30


def test_a_bug_in_one_ends_all_without_what_it_may_quote(found):
    ranks = found["failures"]["bug"]
    assert ranks[1]["bug"] == "ValueError"
    for one in (ranks[0], ranks[2]):
        assert one["error"] == "InvkitError"
        assert one["message"] == "process 1: this is a bug in invkit: ValueError"


def test_ctrl_c_in_one_stops_all(found):
    ranks = found["failures"]["ctrl_c"]
    assert [(one["error"], one["code"]) for one in (ranks[0], ranks[2])] == [("Interrupted", 130)] * 2
    assert ranks[1]["exit"] != 0


@pytest.mark.parametrize("case", ["killed", "killed_when_they_have_ended"])
def test_one_that_is_killed_is_noticed(found, case):
    ranks = found["failures"][case]
    assert ranks[1]["exit"] == -9
    for one in (ranks[0], ranks[2]):
        assert one["error"] in ("ResourceError", "LostContactError")  # the latter is one of the former
        assert "lost contact" in one["message"]


@pytest.mark.parametrize("world", [2, 4])
def test_a_loss_in_the_logarithm_of_a_mean_has_the_gradient_of_the_whole_batch(found, world):
    (whole,) = [one["answer"] for one in found["batch"]["1"]]
    for one in found["batch"][str(world)]:
        assert one["answer"] == pytest.approx(whole, rel=1e-12)


def test_the_first_locks_and_writes_for_all(found):
    assert [one["answer"] for one in found["files"]["found"]] == ["by 0"] * 3


def test_one_process_is_the_whole_group():
    with process_group() as shard:
        assert (shard.rank, shard.world) == (0, 1)


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "MASTER_ADDR": "node1"}


def without(variables, *names):
    return {name: value for name, value in variables.items() if name not in names}


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (TORCHRUN, Launch(1, 4, 1, "env://")),
        (SRUN, Launch(3, 4, 1, "tcp://node1:29500")),
        ({**SRUN, "MASTER_PORT": "7"}, Launch(3, 4, 1, "tcp://node1:7")),
        ({**SRUN, **TORCHRUN}, Launch(1, 4, 1, "env://")),
        # A job script has these variables too, without having started anything several times.
        (without(SRUN, "MASTER_ADDR"), None),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, None),
    ],
)
def test_the_place_of_a_process_is_read_from_what_started_it(variables, place):
    assert launched(variables) == place


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({**TORCHRUN, "RANK": "4"}, "RANK is 4, but WORLD_SIZE is 4"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "WORLD_SIZE is 'many'"),
        (without(TORCHRUN, "MASTER_ADDR"), "MASTER_ADDR is not set"),
    ],
)
def test_variables_that_make_no_sense_are_refused(variables, message):
    with pytest.raises(ConfigError, match=message):
        launched(variables)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "cuda:99"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(UsageError, match="cpu"):
        usable_device(name)


def test_the_cpu_is_always_there():
    assert usable_device("cpu") == "cpu"
