"""`invkit train`: denoisers, VAEs and cINNs."""

from __future__ import annotations

__all__ = ["register"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from invkit.cli.terminal.console import emit_json, emit_text
from invkit.cli.terminal.options import (
    JsonOption,
    ModelArgument,
    PluginOption,
    chosen_model,
)
from invkit.cli.terminal.progress import TextProgress

if TYPE_CHECKING:
    from invkit.data.patches import Domain
    from invkit.data.slices import NoiseModel

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--train-data",
        metavar="PATH",
        help="Training CT: a DICOM folder, zip or .npy, or `phantoms`; may be repeated. Default: phantoms.",
    ),
]
NoiseOption = Annotated[
    str,
    typer.Option(
        "--train-noise", help="Noise model: physical (in the projection domain) or image (stationary)."
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        metavar="NAME|FILE",
        help="Model sizes and training steps: a preset from `invkit presets`, or a .toml file.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed for all random numbers.")]
DoseOption = Annotated[
    float,
    typer.Option("--train-dose", help="Dose of the low-dose images, as a fraction of the slices' dose."),
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Output .safetensors file.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Train a denoiser, a VAE or the cINN of a layer.", no_args_is_help=True)
    group.command("denoiser")(denoiser)
    group.command("vae")(vae)
    group.command("cinn")(cinn)
    app.add_typer(group, name="train")


def denoiser(
    model: ModelArgument = None,
    out: OutOption = None,
    train_data: DataOption = None,
    noise: NoiseOption = "physical",
    preset: PresetOption = "default",
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="Feature network of the perceptual loss.")
    ] = None,
    dose: DoseOption = 0.25,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Train a denoiser with its recipe. Run again after an interruption, it resumes where it stopped."""
    name = chosen_model(model, plugin)
    from invkit.workflow.train import train_denoiser

    path = train_denoiser(
        name,
        out=out or Path(f"{name}.safetensors"),
        train_data=train_data,
        noise=cast("NoiseModel", noise),
        preset=preset,
        backbone=backbone,
        dose=dose,
        seed=seed,
        device=device,
        progress=TextProgress(),
    )
    _report(path, json)


def vae(
    domain: Annotated[str, typer.Option("--domain", help="Dose of the images: low or high.")] = "low",
    out: OutOption = None,
    train_data: DataOption = None,
    noise: NoiseOption = "physical",
    preset: PresetOption = "default",
    dose: DoseOption = 0.25,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Train the VAE-WGAN that encodes images of one dose."""
    from invkit.workflow.train import train_vae

    path = train_vae(
        cast("Domain", domain),
        out=out,
        train_data=train_data,
        noise=cast("NoiseModel", noise),
        preset=preset,
        dose=dose,
        seed=seed,
        device=device,
        progress=TextProgress(),
    )
    _report(path, json)


def cinn(
    model: ModelArgument = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer", help="Layer key or module name, or input, const or output; the denoiser's default."
        ),
    ] = None,
    domain: Annotated[str, typer.Option("--domain", help="Dose of the sampled images: low or high.")] = "low",
    out: OutOption = None,
    train_data: DataOption = None,
    noise: NoiseOption = "physical",
    preset: PresetOption = "default",
    vae_preset: Annotated[
        str,
        typer.Option(
            "--vae-preset", metavar="NAME|FILE", help="Preset for the VAE, if one has to be trained."
        ),
    ] = "default",
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    allow_bypass: Annotated[
        bool, typer.Option("--allow-bypass", hidden=True, help="No longer needed: any layer is analysed.")
    ] = False,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Train the cINN of one layer, or of a control."""
    name = chosen_model(model, plugin)
    from invkit.workflow.train import train_cinn

    path = train_cinn(
        name,
        layer,
        domain=cast("Domain", domain),
        out=out,
        train_data=train_data,
        noise=cast("NoiseModel", noise),
        preset=preset,
        vae_preset=vae_preset,
        seed=seed,
        device=device,
        progress=TextProgress(),
    )
    _report(path, json)


def _report(path: Path, json: bool) -> None:
    from invkit.artifacts import read_sidecar

    if json:
        emit_json("invkit.train/1", {"path": str(path.resolve()), **read_sidecar(path)})
    else:
        emit_text(str(path.resolve()))
