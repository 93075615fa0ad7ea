"""Commands in one process and in several, each forked from one that has torch and invkit warm; prints one JSON object.

Called as `python forked_commands.py FOLDER SCENARIO...`.
"""

import importlib
import json
import os
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from forked_faults import Child, free_port
from forked_ranks import environment

from invkit.certificates import certify
from invkit.cli.app import app
from invkit.parts.preset_file import toml_text, vae_preset

# What the commands import when they are called is then there in every child.
WARM = (
    *(f"invkit.analysis.{name}" for name in ("analyze", "runs", "presentation")),
    *(f"invkit.workflow.{name}" for name in ("run", "train")),
    "invkit.report.console",
    "torch._dynamo",
)
for name in WARM:
    importlib.import_module(name)

SIDE = 32
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
samples = 4
refine = 2
domains = ["low"]
images = {count = 2, size = 32}
denoisers.small.layers = ["1", "2"]
vae = {preset = "tiny", steps = 6, held_out = 32}
regressor = {hidden = 4, stages = 2, stage_batches = 4, steps = 2, batch = 2, patch = 16, calibration = 1}
cinn = {d = 16, blocks = 1, hidden = 8, context = 4, embedder_hidden = 8, batch = 8, steps = 6, evaluate_every = 3}
table = {rows = 32, held_out = 16, pairs = 8}
"""


def started(world: int, words: list[str], folder: Path) -> list[dict]:
    """Return exit code, output and errors of `invkit WORDS` in each of `world` processes."""
    port = free_port()

    def joined(rank: int) -> object:
        if world > 1:
            os.environ.update(environment(rank, world, port))
        streams = [folder / f"{name}-{rank}" for name in ("stdout", "stderr")]
        for number, stream in enumerate(streams, start=1):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
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


def analyze(folder: Path, worlds=(1, 2), layers=("1",), images=1, refine="none", cache="shared") -> dict:
    """The same analysis by one process, which has to train what is missing, and by several."""
    plugin, path = inputs(folder)
    np.save(path, np.load(path)[:images])
    found = {}
    for world in worlds:
        out = folder / f"run-{world}"
        os.environ["INVKIT_CACHE"] = str(folder / (cache if cache == "shared" else f"cache-{world}"))
        words = ["analyze", "--plugin", str(plugin), "--input", str(path), "--preset", "tiny", "-n", "30"]
        words += ["--refine", refine, "--train-data", "phantoms:14", "--train-noise", "image"]
        words += ["--out", str(out), "--json"]
        words += [word for layer in layers for word in ("--layer", layer)]
        found[str(world)] = {"out": str(out), "ranks": started(world, words, folder / f"streams-{world}")}
    return found


def analyze_all(folder: Path) -> dict:
    """Two layers and two images, what is missing trained anew each time, up to four processes."""
    return analyze(folder, worlds=(1, 2, 4), layers=("1", "2"), images=2, refine="4", cache="own")


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
        os.environ["INVKIT_CACHE"] = str(folder / "cache-cinn")
        found_vae = started(1, ["train", "vae", "--preset", "tiny", *data], folder / "streams-first")
        assert found_vae[0]["code"] == 0, found_vae
    found: dict = {}
    for what in whats:
        found[what] = {}
        for world in worlds:
            cache = folder / f"cache-{what}-{world}"
            os.environ["INVKIT_CACHE"] = str(cache)
            if what == "cinn":
                # The same VAE for all: a cINN is made for one.
                shutil.copytree(folder / "cache-cinn", cache)
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
    """Commands that share nothing, and one that fails."""
    plugin, image = inputs(folder)
    lost = ["analyze", "--plugin", str(plugin), "--input", str(folder / "lost.npy")]
    return {
        "models": started(2, ["models", "--json"], folder / "models"),
        "help": started(2, ["models", "list", "--help"], folder / "help"),
        "usage": started(2, ["analyze", "--samples", "many"], folder / "usage"),
        "lost": started(2, lost, folder / "lost"),
        "device": started(
            2,
            [*lost[:-1], str(image), "--out", str(folder / "run"), "--device", "cuda:99"],
            folder / "device",
        ),
    }


def run(folder: Path, worlds=(1, 2, 4)) -> dict:
    """All steps of a small sweep, by one process and by several."""
    plugin, _ = inputs(folder)
    table = folder / "sweep.toml"
    table.write_text(SWEEP)
    found = {}
    for world in worlds:
        out = folder / f"run-{world}"
        words = ["run", str(table), "--plugin", str(plugin), "--out", str(out), "--json"]
        found[str(world)] = {"out": str(out), "ranks": started(world, words, folder / f"streams-{world}")}
    return found


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    # Two refined draws at a time, so that there is something to share.
    certify.PIXELS_AT_ONCE = 2 * SIDE * SIDE
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
