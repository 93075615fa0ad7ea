"""Calls in processes give what calls here give, and a process that dies is one typed error."""

import os

import pytest

from invkit.errors import ResourceError
from invkit.training.processes.pool import in_processes


@pytest.mark.parametrize("workers", [1, 2])
def test_every_call_is_made_once(workers):
    assert sorted(in_processes(pow, [(base, 2) for base in range(7)], workers)) == [0, 1, 4, 9, 16, 25, 36]


def test_an_error_is_that_of_the_call():
    with pytest.raises(ZeroDivisionError):
        list(in_processes(divmod, [(1, 1), (1, 0)], 2))


def test_a_process_that_dies_is_said():
    with pytest.raises(ResourceError, match="fewer --workers"):
        list(in_processes(os._exit, [(3,), (3,)], 2))
