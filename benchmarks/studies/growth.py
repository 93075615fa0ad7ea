"""How time and memory grow: with samples, pixels and depth of the layer, stated memory against used, and with the training data.

    python benchmarks/studies/growth.py            # all tables, about 40 minutes of processor time
    python benchmarks/studies/growth.py samples    # one of samples, pixels, layer, slice, data

Each row is one whole command in a process of its own. Analyses are of a built-in phantom with a quarter of the dose, with all
parts trained and a warm cache; trainings are of chen2017, for 300 steps, on pairs of random slices in a cache of `invkit data
prepare`. Times are processor times, so another program on the machine disturbs them little. Memory of trainings is what the process
holds besides pages of files, which the kernel takes back as it likes; it is read from /proc, so on Linux alone.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from invkit.data.slices import load_slices

__all__ = ["main"]

UNITS = {"MB": 1e6, "GB": 1e9}
RUN = """
import json, re, resource, subprocess, sys, tempfile, time
held = 0
with tempfile.TemporaryFile("w+") as said:
    done = subprocess.Popen([sys.executable, "-m", "invkit", *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=said)
    while done.poll() is None:
        with open(f"/proc/{done.pid}/status") as status:
            now = re.search(r"RssAnon:\\s+(\\d+) kB", status.read())
        held = max(held, 1024 * int(now[1])) if now else held
        time.sleep(0.05)
    said.seek(0)
    words = said.read()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, peak = used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss
print(json.dumps({"code": done.returncode, "said": words, "cpu": cpu, "peak": peak, "held": held}))
"""
PATIENTS, SIDE = 16, 512  # of the training data
PRESET = """
patch = 33
batch = 64
steps = 300
lr = 2e-3
betas = [0.9, 0.999]
lr_end = 0.005
mse = 1.0
mse_steps = 0
"""
SLICES = (64, 256, 1024)
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
    parser.add_argument("tables", nargs="*", choices=[*TABLES, "data", []], help="which; all by default")
    chosen = parser.parse_args().tables or [*TABLES, "data"]
    with tempfile.TemporaryDirectory() as folder:
        if "data" in chosen:
            trainings(Path(folder))
            chosen = [name for name in chosen if name != "data"]
        if not chosen:
            return
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


def trainings(folder: Path) -> None:
    """Print the table over the slices that are trained on."""
    preset = folder / "preset.toml"
    preset.write_text(PRESET)
    print("\n| slices of training data | on disk | processor time | memory held |\n|---|---|---|---|")
    for count in SLICES:
        cache = prepared(count, folder)
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        out = folder / f"{count}.safetensors"
        found = json.loads(
            run(["train", "denoiser", "chen2017", "--train-data", cache, "--preset", preset, "--out", out])
        )
        if found["code"]:
            sys.exit(found["said"])
        print(
            f"| {count} | {size / 1e6:.0f} MB | {found['cpu']:.1f} s | {found['held'] / 1e6:.0f} MB |",
            flush=True,
        )
        shutil.rmtree(cache)


def prepared(count: int, folder: Path) -> Path:
    """Return a cache with so many pairs of slices of noise."""
    source, cache = folder / "slices", folder / f"cache-{count}"
    rng = np.random.default_rng(count)
    for number in range(count):
        image = rng.normal(0, 20, (SIDE, SIDE)).astype(np.float32)
        for dose, pixels in (
            ("full", image),
            ("low", image + 30 * rng.standard_normal(image.shape, np.float32)),
        ):
            place = source / f"P{number % PATIENTS:03d}" / dose
            place.mkdir(parents=True, exist_ok=True)
            np.save(place / f"{number // PATIENTS:04d}.npy", pixels)
    json.loads(run(["data", "prepare", source, "--out", cache]))
    shutil.rmtree(source)
    return cache


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
