"""What a command tells glibc, found in processes of their own, since it holds for a whole process."""

import os
import subprocess
import sys

import pytest

from invkit.training.processes import allocator

linux = pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in "".join(os.confstr("CS_GNU_LIBC_VERSION") or ""),
    reason="needs glibc",
)
# Page faults of taking and leaving large tensors ten times, after a start in which the heap finds its size.
FAULTS = """
import resource, torch
from invkit.training.processes import allocator
def faults(size):
    for number in range(30):
        if number == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_num_threads(1)
print(faults(10_000_000), allocator.kept())
allocator.keep()
print(faults(10_000_000), allocator.kept())
allocator.hand_back()
print(faults(40_000_000), allocator.kept())  # larger than what the heap has
"""


def finished(code, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in allocator.SETTINGS}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )


def run(code, **variables):
    return [int(word) for word in finished(code, **variables).stdout.split()]


@linux
def test_large_tensors_take_fresh_pages_unless_they_are_kept():
    before, nothing, keeping, kept, after, given_back = run(FAULTS)
    assert (nothing, kept, given_back) == (0, allocator.KEPT, 0)
    assert keeping < 0.1 * min(before, after)


@linux
@pytest.mark.parametrize("name", allocator.SETTINGS)
def test_what_the_environment_chose_stands(name):
    code = "from invkit.training.processes import allocator; allocator.keep(); print(allocator.kept())"
    assert run(code, **{name: "glibc.malloc.hugetlb=0" if name == "GLIBC_TUNABLES" else "65536"}) == [0]


def test_an_importing_program_is_left_alone():
    assert run(
        "import invkit.analysis.analyze; from invkit.training.processes import allocator; print(allocator.kept())"
    ) == [0]


@linux
def test_the_command_line_keeps():
    code = """
import sys
from invkit.cli import app
from invkit.training.processes import allocator
sys.argv = ["invkit", "--version"]
try:
    app.main()
except SystemExit:
    pass
print(allocator.kept(), file=sys.stderr)
"""
    assert int(finished(code).stderr) == allocator.KEPT
