import pytest

from invkit.training.progress import ProgressEvent, TimeLeft


def test_time_left_is_exact_at_a_steady_rate():
    left = TimeLeft(100)
    assert left.update(0, 10.0) is None
    assert left.update(10, 15.0) == pytest.approx(45.0)
    assert left.update(60, 40.0) == pytest.approx(20.0)
    assert left.update(100, 60.0) == 0.0


def test_a_resumed_training_counts_its_own_steps_only():
    left = TimeLeft(100)
    assert left.update(90, 0.0) is None
    assert left.update(95, 10.0) == pytest.approx(10.0)


def test_a_slower_machine_is_noticed_after_the_window():
    left = TimeLeft(1000, window=5)
    for step in range(10):
        left.update(step, step * 1.0)
    for step in range(10, 20):
        estimate = left.update(step, 9 + (step - 9) * 3.0)
    assert estimate == pytest.approx(3.0 * (1000 - 19))


def test_a_rollback_starts_the_estimate_anew():
    left = TimeLeft(100)
    left.update(0, 0.0)
    left.update(50, 50.0)
    assert left.update(20, 51.0) is None
    assert left.update(30, 61.0) == pytest.approx(70.0)


def test_an_event_is_immutable():
    with pytest.raises(AttributeError):
        ProgressEvent("training", 1, 2, 3.0).step = 4
