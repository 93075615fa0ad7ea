"""`invkit analyze`: what does this layer of this denoiser ignore?"""

from __future__ import annotations

__all__ = ["register"]

import json as json_text
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invkit.cli.terminal.console import data_stream, emit_json, say
from invkit.cli.terminal.imports import importing
from invkit.cli.terminal.model import ChannelsOption, NormaliseOption, opened_model
from invkit.cli.terminal.options import JsonOption, PluginOption
from invkit.cli.terminal.progress import TextProgress
from invkit.cli.together import require_shared_out

if TYPE_CHECKING:
    from invkit.analysis.folder import FolderOutcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("analyze")(analyze)


def analyze(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="Denoiser, `arch` or `arch.tag`; or a file or folder with a network, or module.path:name.",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            help="Layer as `invkit layers` names it, `a+b` for a set, or input, const or output; several as `a,b`, or repeated.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="PATH", help="DICOM file, folder or zip, .npy, .png or .tiff."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", "-n", help="Number of samples of the model per image.")
    ] = 250,
    refine: Annotated[
        str,
        typer.Option(
            "--refine",
            metavar="K|all|none",
            help="How many images that the layer cannot tell from x to draw and certify, per image.",
        ),
    ] = "16",
    controls: Annotated[
        str,
        typer.Option(
            "--controls", help="standard, or full: also train the model for the layer with random weights."
        ),
    ] = "standard",
    domain: Annotated[str, typer.Option("--domain", help="Dose of the sampled images: low or high.")] = "low",
    sampler: Annotated[
        str,
        typer.Option(
            "--sampler",
            help="vae (with the published model), training-free (without any), or a sampler from a plugin; "
            "`invkit plugins` lists those that are installed.",
        ),
    ] = "vae",
    structures: Annotated[
        str,
        typer.Option(
            "--structures",
            help="discs, of four sizes in the image's commonest tissue; or full: also edges, line pairs and textures, "
            "contrasts from 3 to 100 HU, and soft tissue, lung and bone, in about seven times the time of the discs (100 instead "
            "of 14 seconds for layer 3 of yang2018).",
        ),
    ] = "discs",
    dose: Annotated[
        float | None, typer.Option("--dose", help="Simulate this fraction of the image's dose.")
    ] = None,
    hu_range: Annotated[
        str | None,
        typer.Option("--hu-range", metavar="LOW,HIGH", help="HU values of black and white in a PNG or TIFF."),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option("--spacing", metavar="MM", help="Pixel spacing, where DICOM does not state it."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--roi",
            metavar="X,Y,W,H|FILE",
            help="Region of interest for spreads and figures: a box, or a mask (.npy or .png).",
        ),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            metavar="X,Y,W,H",
            help="A structure with a rim of its surroundings: how weak may it be for all that the layer can tell?",
        ),
    ] = None,
    noise_scans: Annotated[
        str | None,
        typer.Option(
            "--noise-scans",
            metavar="PATH",
            help="Repeat scans or a phantom with the noise of the image: one folder or .npy file for each scan, or one stack.",
        ),
    ] = None,
    train_data: Annotated[
        list[str] | None,
        typer.Option(
            "--train-data",
            metavar="PATH",
            help="CT data for training missing parts; may be repeated. Default: phantoms.",
        ),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            "--train-noise", help="Noise model: physical (in the projection domain) or image (stationary)."
        ),
    ] = "physical",
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            metavar="NAME|FILE",
            help="Model sizes and training steps of missing parts: a preset from `invkit presets`, or a .toml file.",
        ),
    ] = "default",
    vae_preset: Annotated[
        str | None,
        typer.Option(
            "--vae-preset", metavar="NAME|FILE", help="Preset for the VAE, if one has to be trained."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed for all random numbers.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Output folder of the run.")
    ] = None,
    allow_bypass: Annotated[
        bool, typer.Option("--allow-bypass", hidden=True, help="No longer needed: any layer is analysed.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory limit, such as 1.5G.")
    ] = None,
    normalise: NormaliseOption = None,
    channels: ChannelsOption = None,
    plugin: PluginOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print all sentences and figures, not the answer alone.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure what a layer of a denoiser does not tell apart: structures, noise, and the published model of it."""
    with importing():
        from invkit.analysis.folder import analyze_into
        from invkit.analysis.series import analyze_series, holds_series, read_once
        from invkit.cli.series import show_series
        from invkit.parts.config import LayerConfig

    require_shared_out(out)
    opened = opened_model(model, plugin, normalise, channels, device)
    layers = [name.strip() for text in layer for name in text.split(",")] if layer else None
    options: dict[str, Any] = {
        "samples": samples,
        "refine": refine,
        "controls": controls,
        "domain": domain,
        "sampler": sampler,
        "structures": structures,
        "seed": seed,
        "dose": dose,
        "spacing": spacing,
        "region": region,
        "noise_scans": noise_scans,
        "structure": structure,
        "train_data": train_data,
        "train_noise": noise,
        "config": LayerConfig.preset(preset),
        "vae_preset": vae_preset or ("tiny" if preset == "tiny" else "default"),
        "device": device,
        "memory": memory,
        "progress": TextProgress(),
        "say": say,
    }
    image = read_once(data, hu_range=hu_range)
    command = shlex.join(["invkit", *sys.argv[1:]])
    if holds_series(image):
        show_series(analyze_series(opened, layers, image, out=out, command=command, **options), json)
    else:
        show(analyze_into(opened, layers, image, out=out, command=command, **options), json, verbose)


def show(outcome: FolderOutcome, json: bool, verbose: bool = False) -> None:
    """Print what stands in a run folder: the answer, or all of it."""
    from rich.console import Console

    from invkit.analysis.presentation import plugin_figures
    from invkit.report.terminal.answer import print_answer
    from invkit.report.terminal.full import print_report

    if json:
        found = json_text.loads((outcome.folder / "manifest.json").read_bytes())["analysis"]
        places = {"run": str(outcome.folder.resolve()), "report": str(outcome.report.resolve())}
        emit_json(found.pop("schema"), {**found, **places})
        return
    described = json_text.loads(outcome.report.with_suffix(".json").read_bytes())
    console = Console(file=data_stream(), highlight=False)
    if verbose:
        print_report(described, console, outcome.report.resolve(), others=plugin_figures())
    else:
        print_answer(described, console, outcome.report.resolve())
