"""Freed memory stays with the process of the command line, unless the user has chosen otherwise."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
PROGRAM = """
import numpy as np
from invkit.cli.allocator import keep_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8_000_000)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

import resource
kept = keep_memory()
pages()
print(int(kept), pages())
"""


def run(program: str = PROGRAM, **environment: str) -> list[int]:
    """Return what a program prints: whether memory is kept, then how many fresh pages the same 64 MB took the second time."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in done.stdout.split()]


def test_what_was_freed_is_used_again() -> None:
    kept, pages = run()
    assert kept == 1
    assert pages < 100


def test_the_environment_has_the_last_word() -> None:
    kept, pages = run(MALLOC_ARENA_MAX="4")
    assert kept == 0
    assert pages > 10  # huge pages may be large


HELD = """
import numpy as np
from invkit.cli.allocator import keep_memory
from invkit.pipeline.memory import memory_in_use

kept = keep_memory()
before = memory_in_use()
blocks = [np.ones(1_000_000) for _ in range(40)]  # 8 MB each
during = memory_in_use()
del blocks
print(int(kept), during - before, memory_in_use() - before)
"""


def test_memory_that_is_kept_but_free_does_not_count_as_in_use() -> None:
    kept, during, after = run(HELD)
    assert kept == 1
    assert during > 300e6
    assert after < 50e6
