"""What is marked, and what is refused."""

import pytest

from invkit.errors import UsageError
from invkit.images.box import Box, choose_box

SIZE = (40, 60)


@pytest.mark.parametrize("spec", ["5,10,20,8", [5, 10, 20, 8], (5, 10, 20, 8)])
def test_four_numbers_are_column_row_width_height(spec):
    box = choose_box(spec, SIZE)
    assert box == Box(5, 10, 20, 8) and str(box) == "5,10,20,8"
    assert box.place == (slice(10, 18), slice(5, 25)) and box.middle == (14, 15)
    assert box.moved(-10, -5) == Box(0, 0, 20, 8)
    assert box.within((slice(10, 18), slice(5, 25))) and not box.within((slice(11, 18), slice(5, 25)))


def test_nothing_is_marked_by_default():
    assert choose_box(None, SIZE) is None


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("5,10,20", "four whole numbers"),
        ("1.5,2,9,9", "four whole numbers"),
        ("mask.png", "four whole numbers"),
        ([1, 2, 3], "four whole numbers"),
        ("50,0,20,20", "extends beyond the image of 60 x 40"),
        ("0,38,9,9", "extends beyond"),
        ("-1,0,9,9", "extends beyond"),
        ("0,0,0,0", "between 5 and 96 pixels a side"),
        ("0,0,4,20", "a rim of its surroundings"),
    ],
)
def test_what_is_no_rectangle_of_the_image_is_refused_with_what_to_do(spec, match):
    with pytest.raises(UsageError, match=match):
        choose_box(spec, SIZE)


def test_what_is_too_large_is_refused():
    with pytest.raises(UsageError, match="between 5 and 96"):
        choose_box("0,0,97,20", (200, 200))
