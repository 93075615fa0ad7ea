"""An analysis as items in a folder, which any number of processes take: trainings, layers, the report."""

__all__ = [
    "FolderOutcome",
    "analyze_into",
    "asked",
    "layer_items",
    "merged",
    "training_items",
    "with_origins",
]

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invkit.analysis.kept import read_layer, write_layer
from invkit.analysis.runs import AnalysisResult, new_run_folder, write_run
from invkit.analysis.specs import ImageSpec, SamplingSpec, TrainingSpec, specs_of
from invkit.analysis.subject import Data
from invkit.analysis.whole import Analysis
from invkit.artifacts import remove_unfinished, state_fingerprint
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.noise.scans import NoiseScans
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost
from invkit.training.processes.items import Item, file_name, record_of, work_off
from invkit.training.processes.plan import begin, require_place, require_writable

LAYERS = "layers"  # what was measured of each, until the report is written


@dataclass(frozen=True)
class FolderOutcome:
    """What a call of `analyze_into` came to.

    Args:
        folder: of the run.
        report: the HTML report.
        done: names of the items that this process has done.
    """

    folder: Path
    report: Path
    done: tuple[str, ...]


def analyze_into(
    model: str | Denoiser | LoadedDenoiser | nn.Module,
    layer: str | Sequence[str] | None,
    data: Data,
    *,
    out: str | Path | None = None,
    command: str = "",
    **options: Any,
) -> FolderOutcome:
    """Do what `analyze` does, in a run folder, together with whatever other processes are called in the same way.

    What has to be trained and each layer are items of their own. Called again after an interruption it goes on with what is left;
    the folder comes out the same, byte for byte.

    Args:
        model: as for `analyze`.
        layer: as for `analyze`.
        data: as for `analyze`.
        out: the folder: new, empty, or that of an earlier call; by default a new one below `runs`.
        command: a command line that does it again, for the report.
        options: everything else that `analyze` takes.

    Raises:
        ConfigError: the folder holds an analysis with other options, or of another image.
        InvkitError: as for `analyze`; also where another process met it.
    """
    require_writable(Path("runs")) if out is None else require_place(Path(out), "analysis")
    image, sampling, training, runtime = specs_of(data, options)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    analysis = Analysis(denoiser, layer, image, sampling, training, runtime)
    names = analysis.names
    folder = new_run_folder(Path("runs"), denoiser.name, "+".join(names)) if out is None else Path(out)
    plan = begin(
        folder,
        asked(denoiser, names, analysis.subject.sha256, image, sampling, training),
        "analysis",
        data=described(analysis.workshop.slices, runtime.host),
        command=command,
    )

    def report() -> Sequence[Path]:
        result = with_origins(merged(analysis, folder / LAYERS), folder)
        return write_run(result, folder, created=plan.created, command=plan.command, host=runtime.host).files

    trainings = training_items(analysis)
    layers = layer_items(lambda: analysis, names, folder / LAYERS, needs=[item.name for item in trainings])
    last = Item("report", "", report, tuple(item.name for item in layers))
    done = work_off(folder, [*trainings, *layers, last], threads=plan.threads, say=runtime.say)
    # All is done by now, so nobody reads or writes here any more.
    shutil.rmtree(folder / LAYERS, ignore_errors=True)
    remove_unfinished(folder)
    return FolderOutcome(folder, folder / "report.html", done)


def training_items(analysis: Analysis) -> list[Item]:
    """Return what may have to be trained for an analysis: what all models share, then each model."""
    if not analysis.trained:
        return []

    def done(act: Callable[[], None]) -> Sequence[Path]:
        act()
        return ()  # it is kept in the cache

    shared = Item("shared parts", "", partial(done, analysis.share))
    return [
        shared,
        *(
            Item(
                f"train {name}",
                "",
                partial(done, partial(analysis.learn, name)),
                (shared.name,),
                there=partial(analysis.has, name),
            )
            for name in analysis.trained
        ),
    ]


def layer_items(
    analysis: Callable[[], Analysis],
    names: Sequence[str],
    place: Path,
    *,
    needs: Sequence[str],
    label: str = "",
) -> list[Item]:
    """Return the measuring of each layer; what comes of it is kept only until all are merged.

    Args:
        analysis: that they are of, asked for when what they need is done.
        names: of its layers.
        place: where their results are kept.
        needs: names of items that must be done before.
        label: words before a layer's name, to tell the items from others.
    """

    def measure(name: str) -> list[Path]:
        path = _kept(place, name)
        measured = analysis().measure(name)
        if measured.trained == "trained":
            # By which process is chance, and `with_origins` tells it from the items.
            measured = replace(measured, trained="found")
        write_layer(path, measured, {"memory": analysis().memory})
        return [path, path.with_suffix(".json")]

    return [
        Item(f"layer {label}{name}", "", partial(measure, name), tuple(needs), passing=True) for name in names
    ]


def merged(analysis: Analysis, place: Path) -> AnalysisResult:
    """Return what is said of layers whose results are kept."""
    kept = [read_layer(_kept(place, name)) for name in analysis.names]
    return analysis.result([layer for layer, _ in kept], kept[0][1]["memory"])


def with_origins(result: AnalysisResult, folder: Path) -> AnalysisResult:
    """Return a result that says of each layer's model whether it was trained as one of the items of this folder."""
    return replace(
        result,
        layers=tuple(
            layer if record_of(folder, f"train {layer.layer}") is None else replace(layer, trained="trained")
            for layer in result.layers
        ),
    )


def described(slices: SliceSet, host: PluginHost) -> dict[str, Any]:
    """Return which training data and plugins these are, as JSON values."""
    return {
        "fingerprint": slices.fingerprint,
        "description": slices.description,
        "plugins": host.code(),
    }


def asked(
    denoiser: LoadedDenoiser,
    layers: Sequence[str],
    images: str,
    image: ImageSpec,
    sampling: SamplingSpec,
    training: TrainingSpec,
) -> dict[str, Any]:
    """Return all that decides the figures of an analysis, as JSON values.

    Args:
        denoiser: f.
        layers: as they are named.
        images: fingerprint of the images.
        image: how they are taken.
        sampling: how samples are drawn, refined and compared.
        training: how what is missing is trained.
    """
    return {
        "model": denoiser.name,
        "sha256": denoiser.sha256,
        "layers": list(layers),
        "images": images,
        **_fields(image, without=("data", "hu_range")),
        **_fields(sampling),
        "training": _fields(training, without=("cache",)),
    }


def _fields(spec: ImageSpec | SamplingSpec | TrainingSpec, without: Sequence[str] = ()) -> dict[str, Any]:
    return {
        field.name: _plain(getattr(spec, field.name)) for field in fields(spec) if field.name not in without
    }


def _plain(value: Any) -> Any:
    """Return a setting as JSON can hold it; images, data and models of settings by what they hold."""
    if isinstance(value, Tensor | np.ndarray):
        return state_fingerprint({"value": torch.as_tensor(value)})
    if isinstance(value, SliceSet | NoiseScans):
        return value.fingerprint
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _kept(place: Path, name: str) -> Path:
    return place / f"{file_name(name)}.safetensors"
