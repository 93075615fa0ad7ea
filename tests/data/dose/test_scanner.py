"""A scanner that cannot be is refused where it is described."""

import math

import pytest

from invkit.data.dose.kernel import KERNELS
from invkit.data.dose.scanner import SCANNER, Scanner
from invkit.errors import UsageError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"electronic": -1.0}, "electronic noise"),
        ({"electronic": math.nan}, "electronic noise"),
        ({"kernel": "blurry"}, "no kernel 'blurry'"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Scanner(**options)


def test_a_kernel_is_given_by_name_or_itself():
    assert Scanner(kernel=KERNELS["sharp"]).kernel is KERNELS[Scanner(kernel="sharp").kernel]
    assert Scanner() == SCANNER
