"""Commands in one process and in several, each forked from one that has torch and invkit warm; prints one JSON object.

Called as `python forked_commands.py FOLDER SCENARIO...`.
"""

import importlib
import json
import os
import resource
import shutil
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from forked_faults import Child, Fuse, free_port
from forked_ranks import environment
from kept_phantoms import PHANTOMS

from invkit.artifacts import cache_folder
from invkit.cli.app import app
from invkit.parts.preset_file import toml_text, vae_preset
from invkit.report import html, write
from invkit.training.processes import plan

# What the commands import when they are called is then there in every child.
WARM = (
    *(f"invkit.analysis.{name}" for name in ("folder", "series", "presentation")),
    *(f"invkit.workflow.{name}" for name in ("run", "train")),
    "invkit.report.terminal.full",
    "torch._dynamo",
)
for name in WARM:
    importlib.import_module(name)

GIVEN = cache_folder()
SIDE = 32
KILLED_AT = 60  # of the points at which Fuse may strike: each file that is written has nine
PLUGIN = """
import invkit

def build():
    from torch import nn
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

def critic():
    from torch import nn
    return nn.Sequential(nn.Conv2d(1, 4, 4, stride=4), nn.Flatten(), nn.Linear(64, 1))

@invkit.hookimpl
def invkit_denoisers():
    layers = (invkit.Layer("1", module="0"), invkit.Layer("2", module="2"))
    recipe = invkit.Recipe(
        patch=16, batch=4, steps=6, lr=1e-3, adversarial=invkit.Adversarial(critic=critic, lr=1e-3)
    )
    return [invkit.Denoiser("small", build, invkit.Affine(0.0, 500.0), layers, recipe=recipe)]
"""

SWEEP = """
data = ["phantoms:14"]
noise = "image"
samples = 3
refine = 0
domains = ["low"]
images = {count = 1, size = 32}
denoisers.small.layers = ["1", "2"]
vae = {preset = "tiny", steps = 6, held_out = 32}
regressor = {hidden = 4, stages = 2, stage_batches = 4, steps = 2, batch = 2, patch = 16, calibration = 1}
cinn = {d = 16, blocks = 1, hidden = 8, context = 4, embedder_hidden = 8, batch = 8, steps = 6, evaluate_every = 3}
table = {rows = 32, held_out = 16, pairs = 8}
"""


def use_cache(folder: Path) -> None:
    """Let commands keep in a folder what they train; phantoms are those of the cache that this process was given."""
    for name in PHANTOMS:
        kept = GIVEN / name
        if kept.is_dir() and not (folder / name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(kept.resolve(), target_is_directory=True)
    os.environ["INVKIT_CACHE"] = str(folder)


def started(
    world: int, words: list[str], folder: Path, *, told: bool = True, victim: int | None = None
) -> list[dict]:
    """Return exit code, output and errors of `invkit WORDS` in each of `world` processes.

    Args:
        world: how many.
        words: of the command.
        folder: where they print.
        told: they are told of each other as by torchrun; else they are as many shells.
        victim: the one of them that is killed in the middle of writing something.
    """
    port = free_port()

    def joined(rank: int) -> object:
        if world > 1 and told:
            os.environ.update(environment(rank, world, port))
        streams = [folder / f"{name}-{rank}" for name in ("stdout", "stderr")]
        for number, stream in enumerate(streams, start=1):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        if rank == victim:
            Fuse(KILLED_AT).install()
        code = 0
        try:
            app(words, prog_name="invkit")
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        return [code, *(stream.read_text() for stream in streams)]

    folder.mkdir(parents=True, exist_ok=True)
    children = [Child(lambda rank=rank: joined(rank)) for rank in range(world)]
    answers = [child.join()[1] or [None, "", ""] for child in children]
    return [dict(zip(("code", "stdout", "stderr"), answer, strict=True)) for answer in answers]


def inputs(folder: Path) -> tuple[Path, Path]:
    """Write a plugin and an image."""
    plugin, image = folder / "small.py", folder / "x.npy"
    plugin.write_text(PLUGIN)
    rows = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    np.save(image, (60 * rows).numpy())
    return plugin, image


def train(folder: Path, worlds=(1, 2), whats=("denoiser",)) -> dict:
    """The same trainings, by one process and by several at an equal global batch."""
    plugin, _ = inputs(folder)
    commands = {
        "denoiser": ["denoiser", "small", "--plugin", str(plugin)],
        "vae": ["vae", "--preset", "tiny"],
        "cinn": ["cinn", "small", "--plugin", str(plugin), "--layer", "1", "--preset", "tiny"],
    }
    # In full precision: bfloat16 rounds a gradient that is a sum over fewer patches differently.
    fp32 = folder / "vae.toml"
    fp32.write_text(toml_text(vae_preset("tiny").model_copy(update={"bf16": False}).model_dump(mode="json")))
    commands["vae-fp32"] = ["vae", "--preset", str(fp32)]
    data = ["--train-data", "phantoms:14", "--train-noise", "image", "--json"]
    if "cinn" in whats:
        use_cache(folder / "cache-cinn")
        found_vae = started(1, ["train", "vae", "--preset", "tiny", *data], folder / "streams-first")
        assert found_vae[0]["code"] == 0, found_vae
    found: dict = {}
    for what in whats:
        found[what] = {}
        for world in worlds:
            cache = folder / f"cache-{what}-{world}"
            if what == "cinn":
                # The same VAE for all: a cINN is made for one.
                shutil.copytree(folder / "cache-cinn", cache, symlinks=True)
            use_cache(cache)
            out = folder / f"{what}-{world}.safetensors"
            words = ["train", *commands[what], *data, "--out", str(out)]
            if what == "cinn":
                words += ["--vae-preset", "tiny"]
            streams = folder / f"streams-{what}-{world}"
            found[what][str(world)] = {"out": str(out), "ranks": started(world, words, streams)}
    return found


def train_all(folder: Path) -> dict:
    return train(folder, worlds=(1, 2, 4), whats=("denoiser", "vae", "vae-fp32", "cinn"))


def others(folder: Path) -> dict:
    """Commands that are one process's alone, and some that fail."""
    plugin, image = inputs(folder)
    analyze = ["analyze", "--plugin", str(plugin), "--input"]
    out = ["--out", str(folder / "run")]
    return {
        "models": started(2, ["models", "--json"], folder / "models"),
        "help": started(2, ["models", "list", "--help"], folder / "help"),
        "usage": started(2, ["analyze", "--samples", "many"], folder / "usage"),
        "lost": started(2, [*analyze, str(folder / "lost.npy"), *out], folder / "lost"),
        "device": started(2, [*analyze, str(image), *out, "--device", "cuda:99"], folder / "device"),
        "folder": started(2, [*analyze, str(image)], folder / "folder"),
    }


class Noon:
    """A clock that stands, so that what is made twice is the same, byte for byte."""

    @staticmethod
    def now(zone):
        return datetime(2026, 1, 1, 12, tzinfo=zone)


def worked(folder: Path, words: list[str], how: dict[str, dict], *, own_cache: bool = False) -> dict:
    """Return what a command that takes items came to, done in several ways by some processes each.

    Args:
        folder: of the scenario.
        words: of the command, but for `--out`.
        how: options of `started`, by name.
        own_cache: train what is missing anew each time.
    """
    plan.datetime = Noon
    found = {}
    for way, options in how.items():
        out = folder / way
        use_cache(folder.parent / (f"cache-{folder.name}-{way}" if own_cache else "cache"))
        command = [*words, "--out", str(out), "--json"]
        found[way] = {
            "out": str(out),
            "ranks": started(words=command, folder=folder / f"streams-{way}", **options),
        }
    return found


WAYS = {
    "one": {"world": 1},
    "two": {"world": 2},
    "four": {"world": 4},
    "shells": {"world": 2, "told": False},
    "killed": {"world": 2, "victim": 1},
}


def ways(*names: str) -> dict[str, dict]:
    return {name: WAYS[name] for name in names}


def without_figures() -> None:
    """Draw nothing: what matplotlib draws takes most of the time of what is small."""
    write.plates = html.plates = lambda data: ()


def analyzed(folder: Path, images: int, *words: str) -> list[str]:
    plugin, path = inputs(folder)
    np.save(path, np.load(path)[:1].repeat(images, 0) + np.arange(images).reshape(-1, 1, 1, 1))
    options = ["--plugin", str(plugin), "--input", str(path), "--preset", "tiny"]
    return ["analyze", *options, "--train-data", "phantoms:14", "--train-noise", "image", *words]


def layers(folder: Path) -> dict:
    """Two layers of an image, without training."""
    without_figures()
    words = analyzed(
        folder, 1, "--sampler", "training-free", "-n", "4", "--refine", "2", "-l", "1", "-l", "2"
    )
    found = worked(folder, words, ways("one", "two", "shells"))
    again = ["--out", found["two"]["out"], "--json"]
    return {**found, "again": started(world=2, words=[*words, *again], folder=folder / "streams-again")}


def slices(folder: Path) -> dict:
    """Three slices of a series, without training."""
    without_figures()
    words = analyzed(folder, 3, "--sampler", "training-free", "-n", "3", "--refine", "none", "-l", "1")
    return worked(folder, words, ways("one", "two"))


def run(folder: Path) -> dict:
    """All of a small sweep; in one way the second of two processes is killed in the middle of a training."""
    without_figures()
    return worked(folder, swept(folder), ways("one", "two", "killed"))


def run_by_four(folder: Path) -> dict:
    """The same by four, with all figures."""
    return worked(folder, swept(folder), ways("one", "four"))


def trained(folder: Path) -> dict:
    """Two layers and a random one of two images, what is missing trained anew each time, with all figures."""
    words = analyzed(folder, 1, "-n", "27", "--refine", "9", "--controls", "full", "-l", "1", "-l", "2")
    return worked(folder, words, ways("one", "two", "four", "killed"), own_cache=True)


def swept(folder: Path) -> list[str]:
    plugin, _ = inputs(folder)
    table = folder / "sweep.toml"
    table.write_text(SWEEP)
    return ["run", str(table), "--plugin", str(plugin)]


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    results = {}
    for name in names:
        (folder / name).mkdir()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        results[name] = globals()[name](folder / name)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"{name}: {after.ru_utime - before.ru_utime:.1f} s", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
