"""Runs `forked_commands.py` and reads what came of it."""

import json
import os
import subprocess
import sys
from pathlib import Path


def forked(folder, *names, timeout=600):
    """What scenarios of `forked_commands.py` came to."""
    script = Path(__file__).with_name("forked_commands.py")
    result = subprocess.run(
        [sys.executable, script, folder, *names],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


def ended_well(started):
    """All processes ended well, and only the first has printed."""
    first, *others = started["ranks"]
    assert first["code"] == 0, first["stderr"]
    assert all((other["code"], other["stdout"], other["stderr"]) == (0, "", "") for other in others)
    return json.loads(first["stdout"])
