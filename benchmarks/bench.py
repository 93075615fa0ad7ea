"""Every benchmark, one after the other, each group in a process of its own with bounded memory.

`python benchmarks/bench.py [GROUP ...]` prints the table and writes `benchmarks/results/latest.json`; with groups named, only
their rows are measured anew. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
GROUPS = ("flows", "images", "layers", "patches", "refine", "commands")
MEMORY = 12 * 2**30
THREADS = 2
# A pass through a small network costs half as much again where glibc hands its memory back and takes it anew on the way, and where
# the kept activation lies decides that. These rows are about a few per cent, so for them it keeps what it has.
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**27), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
GROUPS_KEEPING = ("layers",)


def measure(group: str) -> None:
    """Measure one group in this process and print its rows as JSON."""
    import torch

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    print(json.dumps([row.to_json() for row in importlib.import_module(group).rows()]))


def measured(group: str) -> list[dict[str, Any]]:
    """Measure one group in a process of its own."""
    environment = {**os.environ, **KEEPING} if group in GROUPS_KEEPING else None
    done = subprocess.run(
        [sys.executable, __file__, "--only", group],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def printed(row: dict[str, Any]) -> str:
    """Return one line of the table."""
    share = "" if row["share_of_limit"] is None else f"  {100 * row['share_of_limit']:.0f} % of it the limit"
    target = "no target" if row["target"] is None else f"target {row['target']:.3g}"
    return (
        f"{row['id']:20} {row['ours_s']:10.4g} s  {row['rival_s']:10.4g} s  {row['ratio']:7.2f} "
        f"({target}{'' if row['holds'] else ', NOT REACHED'})  {row['rival']}{share}"
    )


def main() -> int:
    """Measure, print, write; return 1 if a row does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", default=[])
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        measure(given.only)
        return 0
    kept: list[dict[str, Any]] = []
    if given.groups and RESULTS.exists():
        kept = [row for row in json.loads(RESULTS.read_text())["rows"] if row["group"] not in given.groups]
    for group in given.groups or GROUPS:
        for row in measured(group):
            kept.append({**row, "group": group})
            print(printed(row), flush=True)
    found = {
        "schema": "invkit.benchmarks/1",
        "measured": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "versions": {name: version(name) for name in ("invkit", "torch", "FrEIA", "zuko")},
        "rows": sorted(kept, key=lambda row: GROUPS.index(row["group"])),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return int(not all(row["holds"] for row in kept))


if __name__ == "__main__":
    sys.exit(main())
