"""A series of slices, one after the other: each has its own run folder, so memory stays that of one and nothing is done twice."""

__all__ = ["SeriesResult", "analyze_series", "holds_series", "read_once"]

import gc
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from invkit.analysis.analyze import analyze, layer_list
from invkit.analysis.journal import CONFIG, require_same
from invkit.analysis.pooling import pooled
from invkit.analysis.runs import save_run
from invkit.analysis.specs import ImageSpec
from invkit.analysis.subject import Data
from invkit.artifacts import fingerprint, sha256_file, state_fingerprint, write_atomic
from invkit.data.images import Scan, as_image, read_scan
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.errors import UsageError
from invkit.parts.workshop import silent
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost, default_host
from invkit.report.series import SeriesPage, write_series
from invkit.training.device import usable_device
from invkit.training.lock import exclusive
from invkit.training.processes.distributed import by_first
from invkit.training.seeds import derive_seed

SCHEMA = "invkit.series/1"
SLICES = "slices"
SHOWN = 3
# What decides no figure, but for rounding.
ASIDE = frozenset({"say", "progress", "device", "memory", "cache"})


@dataclass(frozen=True)
class SeriesResult:
    """The result of `analyze_series`. Images stay in the run folders of the slices and are read when they are asked for.

    Args:
        folder: of the series; `slices/0001` and so on are the run folders of the slices.
        model: name of the denoiser.
        layers: as the user named them.
        description: which images these are.
        slices: one entry a slice, JSON values: `slice` (from 1), `seed`, `folder`, `report`, `layers` with `metrics`, `verdict` and
            `warnings` of each layer, and `warnings` of the slice.
        metrics: for each layer, its figures over all slices.
        warnings: each with the number of slices that it was said of.
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
            "metrics": self.metrics,
            "warnings": self.warnings,
            "slices": list(self.slices),
        }


def holds_series(data: Data) -> bool:
    """Return whether these data, read or given as an array, are several images.

    Raises:
        ImageError: they are no usable image.
    """
    return data is not None and len(_images(data, None).image) > 1


def analyze_series(
    model: str | Denoiser | LoadedDenoiser | nn.Module = "yang2018",
    layer: str | Sequence[str] = "3",
    data: Data = None,
    *,
    out: str | Path,
    seed: int = 0,
    hu_range: tuple[float, float] | str | None = None,
    spacing: float | None = None,
    device: str = "cpu",
    host: PluginHost | None = None,
    command: str = "",
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> SeriesResult:
    """Analyse each slice of a series as `analyze` does, one after the other, each into a run folder of its own.

    Memory is that of one slice besides the images themselves, and is stated before each is sampled. Called again with the same
    options and folder after an interruption, it goes on behind the last slice that was finished; one whose files were changed is
    done again.

    Args:
        model: as for `analyze`.
        layer: as for `analyze`.
        data: a folder, zip or `.npy` file with several slices, or an array or tensor in HU.
        out: folder of the series: new, empty, or that of an earlier call.
        seed: every slice has its own, derived from this one and its number.
        hu_range: as for `analyze`.
        spacing: as for `analyze`.
        device: as for `analyze`.
        host: the plugins.
        command: a command line that makes it again, for the report.
        say: called with one line for each thing done.
        options: everything else that `analyze` takes.

    Raises:
        ConfigError: the folder holds a series with other options or images.
        InvkitError: as for `analyze`.
    """
    say = say or silent
    host = host or default_host()
    images, stated, _ = _images(data, hu_range)
    device = usable_device(device)
    denoiser = load(model, device=device, host=host)
    layers = layer_list(layer)
    config = {
        "model": denoiser.name,
        "sha256": denoiser.sha256,
        "layers": layers,
        "seed": seed,
        "images": state_fingerprint({"x": images}),
        **({} if spacing is None else {"spacing": spacing}),
        **{name: _plain(value) for name, value in sorted(options.items()) if name not in ASIDE},
    }
    folder = Path(out)

    def one(index: int) -> dict[str, Any]:
        place = folder / SLICES / f"{index + 1:04d}"
        own = derive_seed(seed, "series", index)
        key = fingerprint({"config": config, "slice": index})
        title = f"slice {index + 1} of {len(images)}"
        manifest = _finished(place, key)
        if manifest is None:
            say(title)
            shutil.rmtree(place, ignore_errors=True)
            result = analyze(
                denoiser,
                layers,
                images[index],
                seed=own,
                device=device,
                host=host,
                say=say,
                spacing=stated if spacing is None else spacing,
                **options,
            )
            save_run(result, place, command=command, host=host, beside={"series": {"key": key}})
            found = result.to_json()
            del result
            gc.collect()
        else:
            say(f"{title}: done before")
            found = manifest["analysis"]
        return {
            "slice": index + 1,
            "seed": own,
            "folder": place.relative_to(folder).as_posix(),
            "report": (place / "report.html").relative_to(folder).as_posix(),
            "layers": {
                name: {part: values[part] for part in ("metrics", "verdict", "warnings")}
                for name, values in found["layers"].items()
            },
            "warnings": found["warnings"],
        }

    with exclusive(folder):
        by_first(lambda: _begin(folder, config))
        rows = [one(index) for index in range(len(images))]
        result = _result(folder, denoiser.name, images, rows, seed)
        write_atomic(folder / "series.json", json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
        write_series(
            folder,
            SeriesPage(
                model=result.model,
                layers=result.layers,
                image=result.description,
                slices=result.slices,
                metrics=result.metrics,
                warnings=result.warnings,
                shown=_spread_out(len(rows)),
                command=command,
            ),
        )
    return result


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


def _begin(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the configuration, or see that it is the one that is there."""
    if not require_same(folder, config, "series"):
        write_atomic(folder / CONFIG, json.dumps(dict(config), indent=1, allow_nan=False).encode())


def _finished(place: Path, key: str) -> dict[str, Any] | None:
    """Return the manifest of a slice that was done with this configuration and whose files are as they were written."""
    try:
        manifest: dict[str, Any] = json.loads((place / "manifest.json").read_bytes())
        if manifest["series"]["key"] != key:
            return None
        intact = all(sha256_file(place / name) == sha256 for name, sha256 in manifest["files"].items())
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return manifest if intact else None


def _result(
    folder: Path, model: str, images: Tensor, rows: Sequence[dict[str, Any]], seed: int
) -> SeriesResult:
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


def _plain(value: Any) -> Any:
    """Return an option as JSON can hold it; images and models of settings by what they hold."""
    if isinstance(value, Tensor):
        return state_fingerprint({"value": value})
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
