"""The words on a branch follow from two figures, with figures on either side of each bound."""

import pytest

from invkit.statistics.intervals import Interval
from invkit.verdict.branch import BranchFound, branch_sentence


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.31, "enlarged, 1.31 times"),
        (1.29, "kept"),
        (1.0, "kept"),
        (0.77, "kept"),
        (0.76, "partly removed, 76 % is left"),
        (0.11, "partly removed, 11 % is left"),
        (0.1, "removed"),
        (0.0, "removed"),
    ],
)
def test_the_ratio_decides(ratio, words):
    found = BranchFound(0.5, Interval(20, 19, 21), Interval(20 * ratio))
    assert found.figures() == {
        "leak": 0.5,
        "change_hu": Interval(20, 19, 21),
        "f_change_hu": Interval(20 * ratio),
        "ratio": pytest.approx(ratio),
    }
    said = branch_sentence("layer n of net", found)
    assert said.startswith("Something goes round layer n of net: it is a branch")
    assert "differ from x by 20.0 HU [19.0, 21.0]" in said
    assert said.endswith(f"the change is {words}.")


@pytest.mark.parametrize("change", [None, Interval(0.0)])
def test_without_certified_changes_nothing_is_claimed(change):
    found = BranchFound(0.5, change, change)
    assert found.ratio is None
    assert branch_sentence("n", found).endswith("no certified image tells how much does.")
