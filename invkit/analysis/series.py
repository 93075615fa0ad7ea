"""A series of slices: each is an item with a run folder of its own, so memory stays that of one and nothing is done twice."""

__all__ = ["SeriesResult", "analyze_series", "holds_series", "read_once"]

import gc
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from invkit.analysis.folder import asked, described, training_items, with_origins
from invkit.analysis.presentation import plugin_figures
from invkit.analysis.runs import new_run_folder, write_run
from invkit.analysis.specs import ImageSpec, specs_of
from invkit.analysis.subject import Data
from invkit.analysis.whole import Analysis
from invkit.artifacts import remove_unfinished, state_fingerprint, write_atomic
from invkit.data.images import Scan, as_image, read_scan
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.errors import UsageError
from invkit.parts.workshop import Workshop
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost
from invkit.report.series import SeriesPage, write_series
from invkit.statistics.pooling import pooled
from invkit.training.processes.items import Item, work_off
from invkit.training.processes.plan import begin, require_place, require_writable
from invkit.training.seeds import derive_seed
from invkit.verdict.conclusion import over_slices

SCHEMA = "invkit.series/1"
SLICES = "slices"
SHOWN = 3


@dataclass(frozen=True)
class SeriesResult:
    """The result of `analyze_series`. Images stay in the run folders of the slices and are read on demand.

    Args:
        folder: of the series; `slices/0001` and so on are the run folders of the slices.
        model: name of the denoiser.
        layers: as the user named them.
        description: which images these are.
        slices: one entry per slice, JSON values: `slice` (from 1), `seed`, `folder`, `report`, `layers` with `metrics`,
            `conclusion`, `verdict` and `warnings` of each layer, and `warnings` of the slice.
        metrics: for each layer, its figures over all slices.
        warnings: each with the number of slices to which it applies.
    """

    folder: Path
    model: str
    layers: tuple[str, ...]
    description: str
    slices: tuple[dict[str, Any], ...]
    metrics: dict[str, dict[str, Any]]
    warnings: dict[str, int]

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def report(self) -> Path:
        """The HTML report on the series."""
        return self.folder / "report.html"

    @property
    def answer(self) -> tuple[str, ...]:
        """What the slices come to, a sentence a layer; controls have none."""
        found = {name: [one["layers"][name]["conclusion"] for one in self.slices] for name in self.layers}
        return tuple(over_slices(name, each) for name, each in found.items() if None not in each)

    def tensor(self, number: int, name: str) -> Tensor:
        """Return a tensor of one slice by its name in `samples.safetensors`, such as `"layer0.std"`, HU; mapped, not read.

        Args:
            number: of the slice, from 1.
            name: see the page on files.

        Raises:
            UsageError: there is no such slice or tensor.
        """
        if not 1 <= number <= len(self):
            raise UsageError(f"slices are numbered 1 to {len(self)}, got {number}")
        with safe_open(self.folder / self.slices[number - 1]["folder"] / "samples.safetensors", "pt") as file:
            names = sorted(file.keys())
            if name not in names:
                raise UsageError(f"a slice has the tensors {', '.join(names)}; got {name!r}")
            found: Tensor = file.get_tensor(name)
            return found

    def samples(self, number: int, layer: int = 0) -> Tensor:
        """Return the samples of one slice as the model gave them, `(N, 1, 1, H, W)`, HU; slices count from 1, layers from 0."""
        return self.tensor(number, f"layer{layer}.samples")

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values, without absolute paths."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "layers": list(self.layers),
            "image": self.description,
            "answer": list(self.answer),
            "metrics": self.metrics,
            "warnings": self.warnings,
            "slices": list(self.slices),
        }


def holds_series(data: Data) -> bool:
    """Return whether these data, read or given as an array, are several images.

    Raises:
        ImageError: they are not usable images.
    """
    return data is not None and len(_images(data, None).image) > 1


def analyze_series(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] | None = None,
    data: Data = None,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    hu_range: tuple[float, float] | str | None = None,
    spacing: float | None = None,
    device: str = "cpu",
    host: PluginHost | None = None,
    command: str = "",
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> SeriesResult:
    """Analyse each slice of a series as `analyze` does, each into a separate run folder.

    Memory is that of one slice besides the images themselves, and is stated before each is sampled. Processes that are called in
    the same way share the slices. Called again with the same options and folder after an interruption, it resumes with the
    remaining slices; one whose files have changed is analysed again.

    Args:
        model: as for `analyze`.
        layer: as for `analyze`.
        data: a folder, zip or `.npy` file with several slices, or an array or tensor in HU.
        out: folder of the series: new, empty, or that of an earlier call; by default a new one below `runs`.
        seed: that of each slice is derived from this one and its number.
        hu_range: as for `analyze`.
        spacing: as for `analyze`.
        device: as for `analyze`.
        host: the plugins.
        command: a command line that reproduces it, for the report.
        say: called with one line for each step.
        options: all other arguments of `analyze`.

    Raises:
        ConfigError: the folder holds a series with other options or images.
        InvkitError: as for `analyze`.
    """
    require_writable(Path("runs")) if out is None else require_place(Path(out), "series")
    image, sampling, training, runtime = specs_of(
        data, {**options, "host": host, "device": device, "say": say}
    )
    images, stated, _ = _images(data, hu_range)
    if image.structure is not None:
        raise UsageError(
            f"a structure is marked in one image, and this is a series of {len(images)}: give that slice alone"
        )
    image = replace(image, data=None, spacing=stated if spacing is None else spacing)
    sampling = replace(sampling, seed=seed)
    denoiser = load(model, device=runtime.device, host=runtime.host)
    count = len(images)

    def analysis(index: int, workshop: Workshop | None = None) -> Analysis:
        own, this = replace(sampling, seed=slice_seed(seed, index)), replace(image, data=images[index])
        return Analysis(denoiser, layer, this, own, training, runtime, workshop)

    first = analysis(0)
    folder = new_run_folder(Path("runs"), denoiser.name, "+".join(first.names)) if out is None else Path(out)
    fingerprint = state_fingerprint({"x": images})
    plan = begin(
        folder,
        asked(denoiser, first.names, fingerprint, image, sampling, training),
        "series",
        data=described(first.workshop.slices, runtime.host),
        command=command,
    )

    def one(index: int) -> tuple[Path, ...]:
        place = _place(folder, index)
        # What a process that was killed has left there is not taken for anything.
        shutil.rmtree(place, ignore_errors=True)
        result = with_origins(analysis(index, first.workshop).whole(), folder)
        files = write_run(result, place, created=plan.created, command=plan.command, host=runtime.host).files
        del result
        gc.collect()
        return files

    def report() -> tuple[Path, ...]:
        result = _result(folder, denoiser.name, images, seed)
        path = folder / "series.json"
        write_atomic(path, json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
        page = SeriesPage(
            model=result.model,
            layers=result.layers,
            image=result.description,
            slices=result.slices,
            metrics=result.metrics,
            answer=result.answer,
            warnings=result.warnings,
            shown=_spread_out(count),
            command=plan.command,
            others=plugin_figures(runtime.host),
        )
        return path, *write_series(folder, page)

    trainings = training_items(first)
    needs = tuple(item.name for item in trainings)
    slices = [Item(f"slice {index + 1:04d}", "", partial(one, index), needs) for index in range(count)]
    last = Item("report", "", report, tuple(item.name for item in slices))
    work_off(folder, [*trainings, *slices, last], threads=plan.threads, say=runtime.say)
    remove_unfinished(folder)
    return _result(folder, denoiser.name, images, seed)


def read_once(data: Data, *, hu_range: tuple[float, float] | str | None = None) -> Data:
    """Return what a path holds, read; what is no path is returned as it is.

    Raises:
        ImageError: it is no usable image.
        UsageError: the range is none.
    """
    image = ImageSpec(data, hu_range=hu_range)
    assert not isinstance(image.hu_range, str)
    return read_scan(data, hu_range=image.hu_range) if isinstance(data, str | Path) else data


def _images(data: Data, hu_range: tuple[float, float] | str | None) -> Scan:
    read = read_once(data, hu_range=hu_range)
    if read is None:
        raise UsageError("a series must be a folder, a zip or .npy file, or an array of several slices")
    assert not isinstance(read, str | Path)
    return read if isinstance(read, Scan) else Scan(as_image(read), None, "given as an array")


def slice_seed(seed: int, index: int) -> int:
    """Return the seed of a slice of a series."""
    return derive_seed(seed, "series", index)


def _place(folder: Path, index: int) -> Path:
    return folder / SLICES / f"{index + 1:04d}"


def _row(folder: Path, index: int, seed: int) -> dict[str, Any]:
    """Return what a slice comes to, from its run folder."""
    place = _place(folder, index)
    found = json.loads((place / "manifest.json").read_bytes())["analysis"]
    return {
        "slice": index + 1,
        "seed": slice_seed(seed, index),
        "folder": place.relative_to(folder).as_posix(),
        "report": (place / "report.html").relative_to(folder).as_posix(),
        "layers": {
            name: {part: values[part] for part in ("metrics", "conclusion", "verdict", "warnings")}
            for name, values in found["layers"].items()
        },
        "warnings": found["warnings"],
    }


def _result(folder: Path, model: str, images: Tensor, seed: int) -> SeriesResult:
    rows = [_row(folder, index, seed) for index in range(len(images))]
    layers = tuple(rows[0]["layers"])
    warnings: dict[str, int] = {}
    for row in rows:
        for warning in row["warnings"]:
            warnings[warning] = warnings.get(warning, 0) + 1
    height, width = images.shape[-2:]
    return SeriesResult(
        folder=folder,
        model=model,
        layers=layers,
        description=f"{len(images)} slices of {width} x {height} pixels",
        slices=tuple(rows),
        metrics={
            layer: pooled([row["layers"][layer]["metrics"] for row in rows], seed=seed) for layer in layers
        },
        warnings=warnings,
    )


def _spread_out(count: int) -> tuple[int, ...]:
    """Return the indices of a few slices from first to last."""
    return tuple(sorted({round(k * (count - 1) / (SHOWN - 1)) for k in range(SHOWN)}))
