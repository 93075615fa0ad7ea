"""Fault 7: what is not finite is rolled back once at half the rate, then named."""

import math

import pytest
import torch
from tiny_training import LineTask, TinyTask, config, story

from invkit.errors import DivergedError
from invkit.training.engine import fit


def once(step, factor):
    """Return a hook that spoils the loss of one step the first time it comes."""
    left = [step]

    def before(now):
        return factor if left and now == left[0] and left.pop() == now else None

    return before


@pytest.mark.parametrize("factor", [math.nan, math.inf, "diverged"], ids=str)
def test_fault_7_one_bad_step_goes_back_to_the_checkpoint_at_half_the_rate(tmp_path, factor):
    task = LineTask(lr=0.1, before=once(6, factor))
    result = fit(task, config(), tmp_path)
    # Four steps at 0.1 up to the checkpoint, then eight at 0.05.
    assert task.line.weight.item() == pytest.approx(1 - 0.8**4 * 0.9**8, abs=1e-6)
    assert (result.rollbacks, result.steps) == (1, 12)
    lines = story(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 8, 10, 12]
    assert lines[2]["event"] == "rolled back"
    assert lines[2]["from"] == 6
    assert ("the critic blew up" in lines[2]["reason"]) == (factor == "diverged")
    assert lines[3]["training"]["main/rate"] == 0.05


def test_fault_7_a_second_time_it_is_named_and_the_checkpoints_are_good(tmp_path):
    task = LineTask(before=lambda step: math.nan if step == 6 else None)
    with pytest.raises(
        DivergedError, match=r"phase 'main' at step 6: loss nan.*Lower the learning rate"
    ) as caught:
        fit(task, config(), tmp_path)
    assert caught.value.exit_code == 5
    assert [line["event"] for line in story(tmp_path) if "event" in line] == ["rolled back", "diverged"]
    # Asked again, it goes on from the good checkpoint and finds the same.
    with pytest.raises(DivergedError):
        fit(LineTask(before=lambda step: math.nan if step == 6 else None), config(), tmp_path)


def test_no_rollbacks_where_none_are_allowed(tmp_path):
    task = LineTask(before=once(2, math.nan))
    with pytest.raises(DivergedError, match="after 0 return"):
        fit(task, config(max_rollbacks=0), tmp_path)


def test_an_overflowing_gradient_with_a_finite_loss_is_found(tmp_path):
    class Root(LineTask):
        def loss(self, phase, step, shard):
            super().loss(phase, step, shard)
            return (self.line.weight * 0).sum().sqrt(), {}

    with pytest.raises(DivergedError, match=r"loss 0, gradient norm (nan|inf)"):
        fit(Root(), config(), tmp_path)


def test_parameters_that_overflow_are_never_checkpointed(tmp_path):
    class Leap(LineTask):
        def learning_rate(self, phase, step):
            return 1e38 if step == 3 else 0.1

        def loss(self, phase, step, shard):
            super().loss(phase, step, shard)
            return -1e3 * self.line.weight.sum(), {}

    with pytest.raises(DivergedError, match="parameters after step 4 are not finite"):
        fit(Leap(), config(), tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("*.safetensors"))] == [
        "step-000000000.safetensors"
    ]


@pytest.mark.parametrize("how", ["value", "raised"])
def test_a_bad_monitored_figure_counts_as_divergence(tmp_path, how):
    task = LineTask()
    calls = []

    def evaluate(step):
        calls.append(step)
        if step == 6 and calls.count(6) == 1:
            if how == "raised":
                raise DivergedError("posterior collapse")
            return {"error": math.nan}
        return {"error": 1.0 / step}

    task.evaluate = evaluate
    result = fit(task, config(), tmp_path)
    assert calls == [3, 6, 6, 9, 12]
    assert (result.rollbacks, result.best_step) == (1, 12)


def test_both_phases_of_two_are_guarded_and_dropout_or_batch_norm_do_not_remember(tmp_path):
    task = TinyTask(12, before=once(7, math.nan))
    result = fit(task, config(), tmp_path)
    assert result.rollbacks == 1
    assert all(
        tensor.isfinite().all() for module in task.modules.values() for tensor in module.state_dict().values()
    )


def test_fault_1_and_7_a_crash_around_a_rollback_changes_nothing(tmp_path):
    def run(folder, crash=None):
        state = {"bad": True}

        def before(step):
            if step == crash and step not in state:
                state[step] = True
                raise KeyError(step)
            # Bad only at the full rate, as a training is that has diverged because of it.
            return math.nan if step == 9 and task.optimizers["critic"].param_groups[0]["lr"] > limit else None

        limit = TinyTask(12).learning_rate("critic", 9) * 0.75
        while True:
            task = TinyTask(12, before=before)
            try:
                fit(task, config(), folder)
            except KeyError:
                continue
            return [tensor.clone() for tensor in task.network.state_dict().values()], story(folder)

    reference, lines = run(tmp_path / "reference")
    assert any(line.get("event") == "rolled back" for line in lines)
    for crash in (6, 8, 10):
        tensors, other = run(tmp_path / str(crash), crash)
        assert all(torch.equal(a, b) for a, b in zip(reference, tensors, strict=True))
        assert other == lines
