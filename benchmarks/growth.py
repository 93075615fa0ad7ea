"""How time and memory of an analysis grow: with the samples, the pixels and the depth of the layer; and stated memory against used.

    python benchmarks/growth.py            # all tables, about 40 minutes of processor time
    python benchmarks/growth.py samples    # one of samples, pixels, layer, slice

Each row is one whole command in a process of its own on a built-in phantom with a quarter of the dose, with all parts trained
and a warm cache. Times are processor times, so another program on the machine disturbs them little.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from invkit.data.slices import load_slices

__all__ = ["main"]

UNITS = {"MB": 1e6, "GB": 1e9}
RUN = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "invkit", *sys.argv[1:]], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, peak = used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss
print(json.dumps({"code": done.returncode, "said": done.stderr, "cpu": cpu, "peak": peak}))
"""
TABLES = {
    "samples": [(("-n", n, "--refine", "none"), f"N = {n}", 128) for n in (50, 100, 250, 500, 1000)],
    "pixels": [(("-n", 25, "--refine", "none"), f"{side} x {side}", side) for side in (128, 256, 384, 512)],
    "layer": [
        (
            ("-n", 50, "--refine", "none", "--sampler", "training-free", "--layer", layer),
            f"layer {layer}",
            128,
        )
        for layer in (1, 3, 5, 8)
    ],
    "slice": [
        (("-n", n, "--refine", refine), f"512 x 512, N = {n}, {refine} refined", 512)
        for n, refine in ((25, "none"), (250, "none"), (250, 16))
    ],
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], help="which; all by default")
    chosen = parser.parse_args().tables or [*TABLES]
    with tempfile.TemporaryDirectory() as folder:
        measured(["-n", 5, "--refine", "none"], 128, Path(folder))  # fills caches
        for name in chosen:
            print(
                f"\n| {name} | processor time | peak memory | stated | disk stated |\n|---|---|---|---|---|"
            )
            for words, label, side in TABLES[name]:
                if name == "layer":
                    measured(("-n", 2, *words[2:]), side, Path(folder))  # finds s_Phi of the layer
                seconds, peak, stated, disk = measured(words, side, Path(folder))
                print(
                    f"| {label} | {seconds:.1f} s | {peak / 1e6:.0f} MB | {stated / 1e6:.0f} MB | {disk / 1e6:.0f} MB |",
                    flush=True,
                )


def measured(words: list[object] | tuple[object, ...], side: int, folder: Path) -> tuple[float, ...]:
    """Return processor time, s, and peak, stated memory and stated disk, bytes, of one analysis."""
    image = folder / f"{side}.npy"
    if not image.exists():
        np.save(image, load_slices(["phantoms:12"], size=side).part("test").slices[0].image)
    layer = [] if "--layer" in words else ["--layer", "3"]
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = ["analyze", "--model", "yang2018", "--input", image, "--dose", "0.25", "--out", out]
    found = json.loads(run([*command, *layer, *words]))
    if found["code"]:
        sys.exit(found["said"])
    amounts = re.search(r"at most about ([\d.]+) (MB|GB) .* and ([\d.]+) (MB|GB) of disk", found["said"])
    assert amounts is not None
    stated, disk = (float(amounts[at]) * UNITS[amounts[at + 1]] for at in (1, 3))
    return found["cpu"], found["peak"], stated, disk


def run(words: list[object]) -> str:
    """Run a command from a process of its own, whose only child it is, and return what was measured as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, words)], check=True, capture_output=True, text=True
    )
    return done.stdout


if __name__ == "__main__":
    main()
