"""Pages are fetched once for memory that is allocated again and again, and only where nothing else was chosen."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
import numpy as np
from invkit.training.allocator import give_back, keep_freed_memory
from invkit.pipeline.memory import memory_in_use

kept = keep_freed_memory() if sys.argv[1] == "keep" else None

def use():
    for _ in range(20):
        np.ones(10_000_000, dtype=np.uint8)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = memory_in_use()
give_back()
print(json.dumps({"kept": kept, "faults": faults, "given_back": held - memory_in_use()}))
"""


def ran(what, **environment):
    chosen = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, what],
        check=True,
        capture_output=True,
        text=True,
        env={**chosen, **environment},
    )
    return json.loads(result.stdout)


def test_freed_memory_is_kept_and_given_back():
    found = ran("keep")
    if not found["kept"]:
        pytest.skip("the C library has no mallopt")
    # 20 arrays of 10 MB in pages of 4 KB
    assert found["faults"] < 500
    assert found["given_back"] > 8_000_000


def test_an_importing_program_and_a_chosen_setting_are_left_alone():
    assert ran("import")["kept"] is None
    assert ran("keep", MALLOC_ARENA_MAX="2")["kept"] is False
    assert ran("keep", GLIBC_TUNABLES="glibc.malloc.arena_max=2")["kept"] is False
