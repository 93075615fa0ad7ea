import numpy as np
import pytest

from invkit.errors import InputError
from invkit.measures.controls import retained_information


def test_what_is_retained_lies_between_control_and_floor():
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.05, size=(3, 30))
    narrow = retained_information(4 + noise[0], 2 + noise[1], 10 + noise[2])
    assert narrow.low < 0.25 < narrow.high
    assert narrow.high - narrow.low < 0.02
    r = retained_information(
        -0.4 + noise[0], 0.1 + noise[1], -1.1 + noise[2], groups=[i // 3 for i in range(30)]
    )
    assert r.value == pytest.approx(0.5 / 1.2, abs=0.02)


def test_the_ends_are_zero_and_one():
    floor, const = [1.0, 2.0], [3.0, 5.0]
    assert retained_information(const, const, floor).value == 0.0
    assert retained_information(floor, const, floor).value == 1.0


def test_refuses_equal_controls_and_lengths_that_differ():
    with pytest.raises(InputError, match="same mean"):
        retained_information([1.0], [2.0], [2.0])
    with pytest.raises(InputError, match="one value per image"):
        retained_information([1.0], [2.0, 1.0], [2.0])
