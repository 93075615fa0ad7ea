import json

import pytest
import torch
from tiny_training import Crash, LineTask, config, crash_at, story
from torch import nn

from invkit.training import folder, precision
from invkit.training.engine import fit
from invkit.training.precision import (
    autocast,
    faster_precision,
    mixed_precision,
    precision_of_training,
    train_in,
)


class Timer:
    """Stands for the clock: tells how long the convolution took, in turn in float32 and in bfloat16."""

    def __init__(self, float32: float, bfloat16: float):
        self.seconds = {False: float32, True: bfloat16}
        self.asked: list[bool] = []

    def __call__(self, run, device):
        bf16 = run().dtype == torch.bfloat16
        self.asked.append(bf16)
        return self.seconds[bf16]


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Let a `Timer` measure, in a cache and a process that know nothing yet."""

    def start(float32, bfloat16):
        timer = Timer(float32, bfloat16)
        monkeypatch.setattr(precision, "_seconds", timer)
        monkeypatch.setattr(precision, "_convolution", shown)
        precision._times.cache_clear()
        return timer

    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "cache"))
    yield start
    precision._times.cache_clear()


def shown(device, bf16):
    """Return a way that shows in which precision it computes."""

    def run():
        with autocast(device, bf16):
            return torch.ones(1, 1, 4, 4) @ torch.ones(4, 4)

    return run


def test_matrix_products_run_in_bf16_only_where_asked():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with autocast("cpu", True):
        inside = layer(x)
        with autocast("cpu", False):
            exact = layer(x)
    assert inside.dtype == torch.bfloat16
    assert exact.dtype == layer(x).dtype == torch.float32
    assert torch.equal(exact, layer(x))


@pytest.mark.parametrize(
    ("float32", "bfloat16", "faster"),
    [
        (1.0, 0.5, "bfloat16"),
        (1.0, 0.81, "float32"),  # not worth the digits
        (1.0, 1.4, "float32"),
        (1.0, 30.0, "float32"),
    ],
)
def test_the_faster_precision_is_measured_once_for_a_machine(timed, tmp_path, float32, bfloat16, faster):
    timer = timed(float32, bfloat16)
    assert faster_precision("cpu") == faster
    asked = list(timer.asked)
    assert asked[:4] == [False, True, False, True]
    # What is hopeless is not timed to its end.
    assert (len(asked) == 4) == (bfloat16 > 2 * float32)
    assert faster_precision(torch.device("cpu")) == faster
    assert timer.asked == asked
    (path,) = (tmp_path / "cache" / "precision").iterdir()
    known = json.loads(path.read_text())
    assert known["seconds"] == {"float32": float32, "bfloat16": bfloat16}
    assert (known["torch"], known["threads"]) == (torch.__version__, torch.get_num_threads())
    # Another process finds the times in the cache, whatever its own would be.
    other = timed(bfloat16, float32)
    assert faster_precision("cpu") == faster
    assert other.asked == []
    # What cannot be read is measured again.
    path.write_text("{")
    timer = timed(float32, bfloat16)
    assert faster_precision("cpu") == faster
    assert timer.asked == asked
    assert json.loads(path.read_text()) == known


@pytest.mark.parametrize("what", ["threads", "processor", "torch"])
def test_times_of_another_machine_are_not_taken(timed, monkeypatch, what):
    timed(1.0, 0.5)
    assert faster_precision("cpu") == "bfloat16"
    if what == "threads":
        threads = torch.get_num_threads()
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    else:
        monkeypatch.setattr(precision, "_processor", lambda device: "another one")
    timed(1.0, 2.0)
    assert faster_precision("cpu") == "float32"


def test_a_cache_that_cannot_be_written_is_no_fault(timed, tmp_path):
    (tmp_path / "cache").write_text("a file")
    timed(1.0, 0.5)
    assert faster_precision("cpu") == "bfloat16"


def test_measuring_draws_no_random_numbers_and_follows_no_caller(monkeypatch, tmp_path):
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path))
    precision._times.cache_clear()
    before = torch.get_rng_state()
    with torch.no_grad(), autocast("cpu", False):
        assert faster_precision("cpu") in ("float32", "bfloat16")
    assert torch.equal(torch.get_rng_state(), before)
    found = precision._times("cpu", torch.get_num_threads())
    assert all(0 < seconds < 60 for seconds in found)
    precision._times.cache_clear()


def test_what_has_no_measurement_stays_in_float32(timed):
    timer = timed(1.0, 0.1)
    assert faster_precision("meta") == "float32"
    assert timer.asked == []


def computed():
    with mixed_precision("cpu"):
        inside = nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2)).dtype
    with mixed_precision("cpu", enabled=False):
        assert nn.functional.linear(torch.ones(1, 2), torch.ones(2, 2)).dtype == torch.float32
    return inside


def test_only_a_training_settles_its_precision():
    assert computed() == torch.float32
    with precision_of_training():
        assert computed() == torch.float32
        train_in("bfloat16")
        assert computed() == torch.bfloat16
        # One inside another, as one that is trained to judge another.
        with precision_of_training():
            assert computed() == torch.float32
        assert computed() == torch.bfloat16
    assert computed() == torch.float32


class Shown(LineTask):
    """A task that notes in which precision its steps are computed."""

    def __init__(self, bf16=True, before=None):
        super().__init__(before=before)
        self.bf16 = bf16
        self.dtypes = []

    def loss(self, phase, step, shard):
        self.dtypes.append(computed())
        return super().loss(phase, step, shard)


@pytest.mark.parametrize(
    ("bf16", "faster", "used"),
    [
        (True, "bfloat16", torch.bfloat16),
        (True, "float32", torch.float32),
        (False, "bfloat16", torch.float32),
    ],
)
def test_a_training_is_in_bf16_where_it_may_be_and_that_is_faster(tmp_path, monkeypatch, bf16, faster, used):
    monkeypatch.setattr(folder, "faster_precision", lambda device: faster)
    task = Shown(bf16)
    result = fit(task, config(), tmp_path)
    assert set(task.dtypes) == {used}
    assert result.precision == str(used).removeprefix("torch.")
    assert computed() == torch.float32


@pytest.mark.parametrize("begun", ["bfloat16", "float32"])
def test_a_training_goes_on_in_the_precision_that_it_began_in(tmp_path, monkeypatch, begun):
    other = {"bfloat16": "float32", "float32": "bfloat16"}[begun]
    monkeypatch.setattr(folder, "faster_precision", lambda device: begun)
    with pytest.raises(Crash):
        fit(Shown(before=crash_at(6)), config(), tmp_path)
    monkeypatch.setattr(folder, "faster_precision", lambda device: other)
    task = Shown()
    result = fit(task, config(), tmp_path)
    assert set(task.dtypes) == {getattr(torch, begun)}
    assert (result.precision, result.exact) == (begun, True)
    # A training that diverges comes back to the same.
    task = Shown(before=lambda step: float("nan") if step == 6 and len(task.seen) == 6 else None)
    result = fit(task, config(), tmp_path / "diverged")
    assert result.rollbacks == 1
    assert set(task.dtypes) == {getattr(torch, other)}


def test_a_checkpoint_that_does_not_tell_its_precision_is_not_gone_on_from_exactly(tmp_path, monkeypatch):
    settle = folder.RunFolder.settle_precision

    def untold(self, stored, *, bf16):
        found = settle(self, stored, bf16=bf16)
        del self.environment["precision"]
        return found

    with monkeypatch.context() as patch:
        patch.setattr(folder.RunFolder, "settle_precision", untold)
        with pytest.raises(Crash):
            fit(Shown(before=crash_at(6)), config(), tmp_path)
    monkeypatch.setattr(folder, "faster_precision", lambda device: "bfloat16")
    result = fit(Shown(), config(), tmp_path)
    assert (result.precision, result.exact) == ("bfloat16", False)
    assert [line["changed"] for line in story(tmp_path) if "event" in line] == [
        {"precision": [None, "bfloat16"]}
    ]
