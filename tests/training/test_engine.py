import json

import pytest
import torch
from pydantic import ValidationError
from tiny_training import Crash, LineTask, TinyTask, config, crash_at, outcome, story, train

from invkit.errors import ArtifactError, ConfigError, ResourceError
from invkit.training import engine
from invkit.training.engine import FitConfig, Shard, fit


def test_gradient_descent_on_a_line_follows_its_closed_form(tmp_path):
    task = LineTask(lr=0.1)
    result = fit(task, config(10), tmp_path)
    # (w - 1)^2 with rate 0.1: the distance to 1 shrinks by 1 - 2 * 0.1 each step.
    assert task.line.weight.item() == pytest.approx(1 - 0.8**10, abs=1e-6)
    assert task.seen == list(range(10))
    assert all(task.modes)
    assert not task.line.training
    assert (result.steps, result.stopped_early, result.rollbacks, result.exact) == (10, False, 0, True)
    assert result.history == tmp_path / "metrics.jsonl"
    losses = {line["step"]: line["training"]["main/loss"] for line in story(tmp_path)}
    assert losses == {step: pytest.approx(0.8 ** (2 * (step - 1)), rel=1e-5) for step in (2, 4, 6, 8, 10)}


def test_clipping_bounds_the_step_and_the_log_keeps_the_true_norm(tmp_path):
    task = LineTask(lr=0.1)
    fit(task, config(1, clip_norm=0.5), tmp_path)
    assert task.line.weight.item() == pytest.approx(0.1 * 0.5, rel=1e-5)
    assert story(tmp_path)[0]["training"]["main/gradient_norm"] == pytest.approx(2.0)


@pytest.mark.parametrize("limit", [1e-4, 1.9, 2.0, 2.000001, 2.003, 5.0])
def test_gradients_within_the_limit_are_as_clipping_leaves_them(tmp_path, monkeypatch, limit):
    weights = []
    for number, asked in enumerate((engine._is_within, lambda *_: False)):
        monkeypatch.setattr(engine, "_is_within", asked)
        task = LineTask(lr=0.1)
        fit(task, config(3, clip_norm=limit), tmp_path / str(number))
        weights.append(task.line.weight.item())
    assert weights[0] == weights[1]


def test_only_the_parameters_of_a_phase_get_gradients_and_steps(tmp_path):
    task = TinyTask(1)
    before = {name: tensor.clone() for name, tensor in task.network.named_parameters()}
    fit(task, config(1), tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in task.network.named_parameters())
    assert all(parameter.grad is None for parameter in task.network.parameters())
    task = TinyTask(2)
    fit(task, config(2), tmp_path / "two")
    assert not torch.equal(before["0.weight"], task.network[0].weight)


def test_rates_follow_the_task(tmp_path):
    task = TinyTask(12)
    train(tmp_path)
    for line in story(tmp_path):
        if "training" in line:
            assert line["training"]["critic/rate"] == task.learning_rate("critic", line["step"] - 1)


@pytest.mark.parametrize("steps", [(0,), (1,), (4,), (5,), (11,), (3, 2), (10, 8, 9, 11)], ids=str)
def test_fault_1_a_crash_changes_nothing_but_the_times(tmp_path, steps):
    reference = train(tmp_path / "reference")
    before = crash_at(*steps)
    for _ in steps:
        with pytest.raises(Crash):
            train(tmp_path / "run", before=before)
    assert train(tmp_path / "run", before=before) == reference


def test_how_often_checkpoints_are_written_and_lines_logged_decides_nothing(tmp_path):
    one = train(tmp_path / "one", checkpoint_every=1, log_every=1)
    other = train(tmp_path / "other", checkpoint_every=100, log_every=5)
    del one["story"], other["story"]
    assert one == other


def test_random_numbers_drawn_between_steps_change_nothing_and_the_global_state_is_handed_back(tmp_path):
    reference = train(tmp_path / "reference")

    class Wasteful(TinyTask):
        def learning_rate(self, phase, step):
            torch.rand(step + 1)
            return super().learning_rate(phase, step)

        def evaluate(self, step):
            figures = super().evaluate(step)
            torch.rand(step)
            return figures

    torch.rand(7)
    before = torch.get_rng_state()
    task = Wasteful(12)
    result = fit(task, config(), tmp_path / "run", progress=lambda event: torch.rand(3))
    assert outcome(task, result, tmp_path / "run") == reference
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_reaches_dropout(tmp_path):
    assert train(tmp_path / "one", seed=0)["modules"] != train(tmp_path / "other", seed=1)["modules"]


def test_a_finished_training_is_read_back_not_repeated(tmp_path):
    reference = train(tmp_path)

    def never(step):
        raise AssertionError

    task = TinyTask(12, before=never)
    result = fit(task, config(), tmp_path)
    assert outcome(task, result, tmp_path) == reference
    assert not task.evaluated


def test_the_best_state_is_kept_through_crashes_and_restored_at_the_end(tmp_path):
    values = {3: 5.0, 6: 2.0, 9: 3.0, 12: 2.0}
    task = LineTask(values, lr=0.1, before=crash_at(7, 10))
    for _ in range(2):
        with pytest.raises(Crash):
            fit(task, config(), tmp_path)
        task.line.weight.data.zero_()
    result = fit(task, config(), tmp_path)
    assert task.line.weight.item() == pytest.approx(1 - 0.8**6, abs=1e-6)
    assert (result.best_step, result.metrics, result.steps) == (6, {"error": 2.0}, 12)


def test_without_a_monitor_the_last_state_is_the_result(tmp_path):
    task = LineTask({3: 1.0, 12: 2.0}, monitor=None)
    result = fit(task, config(), tmp_path)
    assert task.line.weight.item() == pytest.approx(1 - 0.8**12, abs=1e-6)
    assert (result.best_step, result.metrics) == (12, {"error": 2.0})


@pytest.mark.parametrize("crash", [(), (5,), (8,)], ids=str)
def test_patience_counts_evaluations_without_gain(tmp_path, crash):
    values = {3: 5.0, 6: 4.0, 9: 4.0, 12: 4.5, 15: 1.0}
    before = crash_at(*crash)
    for _ in crash:
        with pytest.raises(Crash):
            fit(LineTask(values, before=before), config(20, patience=2), tmp_path)
    task = LineTask(values)
    result = fit(task, config(20, patience=2), tmp_path)
    assert (result.steps, result.stopped_early, result.best_step) == (12, True, 6)
    assert task.line.weight.item() == pytest.approx(1 - 0.8**6, abs=1e-6)
    assert fit(LineTask(values), config(20, patience=2), tmp_path).stopped_early


@pytest.mark.parametrize("crash", [(), (0,), (2,), (7,)], ids=str)
def test_a_start_that_nothing_improves_on_is_the_result(tmp_path, crash):
    values = {0: 1.0, 3: 5.0, 6: 4.0, 9: 3.0, 12: 2.0}
    before = crash_at(*crash)
    for _ in crash:
        with pytest.raises(Crash):
            fit(LineTask(values, before=before), config(keep_start=True, patience=1), tmp_path)
    task = LineTask(values)
    result = fit(task, config(keep_start=True, patience=1), tmp_path)
    # Patience compares evaluations with each other: none of them is worse than the one before.
    assert (result.steps, result.stopped_early, result.best_step) == (12, False, 0)
    assert result.metrics == result.start == {"error": 1.0}
    assert task.line.weight.item() == 0.0


def test_a_start_that_is_improved_on_is_left(tmp_path):
    task = LineTask({0: 4.0, 3: 5.0, 6: 3.0, 9: 3.5, 12: 3.5}, lr=0.1)
    result = fit(task, config(keep_start=True), tmp_path)
    assert (result.best_step, result.metrics, result.start) == (6, {"error": 3.0}, {"error": 4.0})
    assert task.line.weight.item() == pytest.approx(1 - 0.8**6, abs=1e-6)
    assert fit(LineTask({3: 1.0, 12: 2.0}), config(), tmp_path / "other").start == {}


@pytest.mark.parametrize("crash", [(), (5,)], ids=str)
def test_a_task_that_has_enough_ends_its_training(tmp_path, crash):
    values = {0: 9.0, 3: 5.0, 6: 4.0, 9: 3.0, 12: 2.0}
    before = crash_at(*crash)

    def task():
        line = LineTask(values, before=before)
        line.enough = lambda looks: asked.append([tuple(look) for look in looks]) or looks[-1][0] == 9
        return line

    asked = []
    for _ in crash:
        with pytest.raises(Crash):
            fit(task(), config(keep_start=True), tmp_path)
    result = fit(task(), config(keep_start=True), tmp_path)
    assert (result.steps, result.best_step, result.stopped_early) == (9, 9, False)
    assert asked[-1] == [(0, 9.0), (3, 5.0), (6, 4.0), (9, 3.0)]
    assert fit(task(), config(keep_start=True), tmp_path).steps == 9


def test_a_monitored_figure_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"'nll'.*error"):
        fit(LineTask({3: 1.0}, monitor="nll"), config(), tmp_path)


def test_a_figure_beside_the_monitored_one_may_be_undefined(tmp_path):
    task = LineTask(monitor="error")
    task.evaluate = lambda step: {"error": 1.0 / step, "ratio": float("nan")}
    result = fit(task, config(), tmp_path)
    assert result.metrics == {"error": 1.0 / 12}
    assert story(tmp_path)[1]["evaluation"] == {"error": 1 / 3, "ratio": None}


@pytest.mark.parametrize(
    "change",
    [{"steps": 13}, {"seed": 1}, {"clip_norm": 1.0}, {"evaluate_every": 4}, {"patience": 9}],
    ids=str,
)
def test_a_folder_with_other_settings_is_refused(tmp_path, change):
    train(tmp_path)
    with pytest.raises(ConfigError, match=next(iter(change))):
        train(tmp_path, **{"steps": 12, **change})


def test_a_folder_with_another_model_or_identity_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(ArtifactError, match="another model"):
        fit(LineTask(), config(), tmp_path)
    task = TinyTask(12)
    task.identity = "other data"
    with pytest.raises(ConfigError, match="identity None, now it is 'other data'"):
        fit(task, config(), tmp_path)


def test_fault_9_other_threads_are_allowed_and_recorded(tmp_path):
    with pytest.raises(Crash):
        train(tmp_path, before=crash_at(6))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        result = train(tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert not result["exact"]
    events = [json.loads(line) for line in result["story"] if "event" in line]
    assert [(line["step"], line["changed"]) for line in events] == [(4, {"threads": [threads, threads + 1]})]
    assert not train(tmp_path)["exact"]


def test_progress_tells_steps_time_and_figures(tmp_path):
    events = []
    fit(TinyTask(12), config(), tmp_path, progress=events.append, stage="VAE, low dose")
    assert {event.stage for event in events} == {"VAE, low dose"}
    assert [events[0].step, events[-1].step] == [0, 12]
    assert (events[0].seconds_left, events[-1].seconds_left) == (None, 0.0)
    assert {"error", "critic/loss", "generator/loss"} <= events[-1].metrics.keys()
    assert events[-1].seconds >= events[0].seconds > 0
    events.clear()
    result = fit(TinyTask(12), config(), tmp_path, progress=events.append)
    assert [(event.step, event.seconds_left) for event in events] == [(12, 0.0)]
    assert result.seconds > 0


def test_a_phase_that_rests_keeps_its_last_figures_in_the_log(tmp_path):
    train(tmp_path, log_every=1)
    lines = [line["training"] for line in story(tmp_path) if "training" in line]
    assert "generator/loss" not in lines[0]
    assert lines[1]["generator/loss"] == lines[2]["generator/loss"] != lines[3]["generator/loss"]


@pytest.mark.parametrize("shape", [(1 << 30, 1 << 20), None], ids=["cpu", "cuda"])
def test_memory_that_runs_out_is_one_typed_error(tmp_path, shape):
    def full(step):
        if shape is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.empty(shape)

    with pytest.raises(ResourceError, match="smaller batch"):
        fit(LineTask(before=full), config(), tmp_path)


def test_other_errors_of_a_task_are_not_ours(tmp_path):
    with pytest.raises(RuntimeError, match="shapes"):
        fit(LineTask(before=lambda step: torch.ones(2, 3) @ torch.ones(2, 3)), config(), tmp_path)

    def unfinished(step):
        raise NotImplementedError("not yet")

    with pytest.raises(NotImplementedError, match="not yet"):
        fit(LineTask(before=unfinished), config(), tmp_path)


@pytest.mark.parametrize(
    "field", [{"steps": 0}, {"clip_norm": -1.0}, {"patience": 0}, {"epochs": 3}], ids=str
)
def test_nonsense_settings_are_refused(field):
    with pytest.raises(ValidationError):
        FitConfig(**{"steps": 5, **field})


def test_shards_tile_the_batch_and_uneven_ones_are_refused():
    parts = [list(range(12))[Shard(rank, 3).slice(12)] for rank in range(3)]
    assert [*parts[0], *parts[1], *parts[2]] == list(range(12))
    assert Shard(0, 1).slice(5) == slice(0, 5)
    with pytest.raises(ConfigError, match="batch of 5"):
        Shard(0, 2).slice(5)
