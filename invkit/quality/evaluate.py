"""Image quality of a denoiser on whole held-out slices, as the LDCT benchmark measures it."""

__all__ = ["ENOUGH", "PARTS", "Evaluation", "ExamQuality", "SliceQuality", "evaluate"]

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from invkit.data.cache.split import check_same_split
from invkit.data.exam import EXAMS
from invkit.data.slices import NoiseModel, SliceSet, split_meta
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.spec import Denoiser
from invkit.errors import DataError, DenoiserError, UsageError
from invkit.images.window import EXAM_WINDOWS, Window
from invkit.plugins.gather import DataSpecs, gather
from invkit.plugins.load import load, stated_provenance
from invkit.plugins.manager import PluginHost, default_host
from invkit.quality.benchmark import FIGURES, benchmark_figures
from invkit.quality.whole_slices import SlicePair, exam_type, slice_pairs
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.device import usable_device
from invkit.training.progress import Progress, report_progress

Part = Literal["test", "validation", "train", "all"]
PARTS: tuple[Part, ...] = get_args(Part)
ENOUGH = 5  # patients of an exam type: as many as the benchmark's test part has, and fewer give no interval
IMAGES = ("low_dose", "denoised")


@dataclass(frozen=True)
class SliceQuality:
    """The figures of one slice against its full dose, by the names of `FIGURES`."""

    exam: str
    patient: tuple[str, str]
    number: int
    paired: bool
    low_dose: Mapping[str, float]
    denoised: Mapping[str, float]


@dataclass(frozen=True)
class ExamQuality:
    """The figures of one exam type: means over its slices, as the benchmark takes them, with intervals over patients.

    Args:
        exam: a key of `invkit.data.exam.EXAMS`; empty where it is not known.
        window: display window of SSIM and PSNR.
        patients: how many.
        slices: how many.
        paired: of them with a real low-dose partner.
        equal: slices without any difference on the window; they have no PSNR and are left out of its mean.
        low_dose: before denoising.
        denoised: after.
        change: the mean difference, after minus before.
    """

    exam: str
    window: Window
    patients: int
    slices: int
    paired: int
    equal: int
    low_dose: Mapping[str, Interval]
    denoised: Mapping[str, Interval]
    change: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        figures = {
            name: {figure: interval.to_json() for figure, interval in getattr(self, name).items()}
            for name in (*IMAGES, "change")
        }
        counts = {name: getattr(self, name) for name in ("patients", "slices", "paired", "equal")}
        named = EXAMS.get(self.exam, "not stated")
        return {
            "exam": self.exam or None,
            "name": named,
            "window": self.window._asdict(),
            **counts,
            **figures,
        }


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Args:
        about: model, weights, data, part and settings, JSON values.
        exams: by exam type, in the order of `EXAMS`.
        rows: every slice.
        enough: number of patients that an interval needs.
    """

    about: Mapping[str, Any]
    exams: tuple[ExamQuality, ...]
    rows: tuple[SliceQuality, ...]
    enough: int = ENOUGH

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without individual slices."""
        return {**self.about, "exams": [exam.to_json() for exam in self.exams]}

    def to_csv(self) -> str:
        """Return two lines for each slice, of the low-dose and of the denoised image."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("exam", "source", "patient", "slice", "low_dose_is", "image", *FIGURES))
        for row in self.rows:
            kind = "paired" if row.paired else "simulated"
            for image in IMAGES:
                values = [repr(getattr(row, image)[figure]) for figure in FIGURES]
                writer.writerow((row.exam, *row.patient, row.number, kind, image, *values))
        return stream.getvalue()


def evaluate(
    model: str | Denoiser | nn.Module | LoadedDenoiser,
    data: DataSpecs = None,
    *,
    part: str = "test",
    window: str = "auto",
    dose: float = 0.25,
    noise: NoiseModel = "physical",
    seed: int = 0,
    device: str = "cpu",
    host: PluginHost | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a denoiser on whole slices against their full dose.

    Args:
        model: as for `invkit.load`.
        data: paths to slices, a plugin's source or an open set; `None` for phantoms. If a slice has a real low-dose partner,
            that is denoised; for others low dose is simulated.
        part: `"test"`, the default, `"validation"`, `"train"`, or `"all"` patients.
        window: `"auto"` for that of each slice's exam type, else `"C"`, `"L"` or `"N"` for all.
        dose: of simulated low-dose images, as a fraction of the slices' own.
        noise: how they are simulated: `"physical"`, in the projection domain, or `"image"`, by stationary noise.
        seed: of phantoms, of simulated noise and of the bootstrap.
        device: where the denoiser runs.
        host: the plugins.
        progress: called after every slice.

    Raises:
        UsageError: an argument is not one of those listed, or an exam type has no window.
        DataError: there are no slices of these patients.
        ArtifactError: the denoiser was trained on these data with other patients held out.
    """
    if part not in PARTS:
        raise UsageError(f"there is no part {part!r}; parts are {', '.join(PARTS)}")
    if window != "auto" and window not in EXAM_WINDOWS:
        raise UsageError(f"there is no window {window!r}; windows are auto, {', '.join(EXAM_WINDOWS)}")
    device, host = usable_device(device), host or default_host()
    denoiser = load(model, device=device, host=host)
    whole = gather(data, host, seed, noise)
    provenance = stated_provenance(denoiser)
    check_same_split({denoiser.name: provenance, "the data": split_meta(whole)})
    slices = whole if part == "all" else whole.part(part)
    if not slices.slices:
        raise DataError(
            f"there are no slices in the {slices.description}: give data from more patients, or --part all"
        )
    chosen = chosen_windows(slices, window)
    pairs = slice_pairs(slices, dose=dose, seed=seed)
    rows = [
        _measure(denoiser, pair, chosen[pair.exam])
        for pair in report_progress(pairs, "evaluating", len(slices.slices), progress)
    ]
    about = {
        "model": denoiser.name,
        "weights": denoiser.weights_tag,
        "sha256": denoiser.sha256,
        "data": slices.description,
        "fingerprint": slices.fingerprint,
        "split": whole.split,
        "part": part,
        "dose": None if all(row.paired for row in rows) else dose,
        "seed": seed,
    }
    order = [*EXAMS, ""]
    exams = sorted({row.exam for row in rows}, key=order.index)
    found = [_summary([row for row in rows if row.exam == exam], chosen[exam], seed) for exam in exams]
    return Evaluation(about, tuple(found), tuple(rows))


def chosen_windows(slices: SliceSet, window: str) -> dict[str, Window]:
    """Return the display window of every exam type among the slices.

    Raises:
        UsageError: it is to be told from the exam type, and one has none.
    """
    exams = {exam_type(item) for item in slices.slices}
    if window != "auto":
        return dict.fromkeys(exams, EXAM_WINDOWS[window])
    unknown = sorted(exams - EXAM_WINDOWS.keys())
    if unknown:
        count = sum(exam_type(item) in unknown for item in slices.slices)
        raise UsageError(
            f"{count} of {len(slices.slices)} slices state no exam type that has a window: "
            "add --window C (chest), L (abdomen) or N (head)"
        )
    return {exam: EXAM_WINDOWS[exam] for exam in exams}


def _measure(denoiser: LoadedDenoiser, pair: SlicePair, window: Window) -> SliceQuality:
    with torch.no_grad():
        out = denoiser(pair.x).cpu()
    if not bool(torch.isfinite(out).all()):
        raise DenoiserError(
            f"denoiser {denoiser.name} returns pixels that are not finite for slice {pair.number}"
        )
    figures = benchmark_figures(torch.cat([pair.x, out]), pair.y.expand(2, -1, -1, -1), window)
    low, denoised = ({name: values[row].item() for name, values in figures.items()} for row in (0, 1))
    return SliceQuality(pair.exam, pair.patient, pair.number, pair.paired, low, denoised)


def _summary(rows: Sequence[SliceQuality], window: Window, seed: int) -> ExamQuality:
    low, denoised, change = ({} for _ in range(3))
    equal = 0
    for figure in FIGURES:
        known = [
            row for row in rows if math.isfinite(row.low_dose[figure]) and math.isfinite(row.denoised[figure])
        ]
        equal += len(rows) - len(known)
        patients = [row.patient for row in known]
        before, after = ([getattr(row, image)[figure] for row in known] for image in IMAGES)
        low[figure] = _interval(before, patients, seed)
        denoised[figure] = _interval(after, patients, seed)
        change[figure] = _interval([b - a for a, b in zip(before, after, strict=True)], patients, seed)
    count, paired = len({row.patient for row in rows}), sum(row.paired for row in rows)
    return ExamQuality(rows[0].exam, window, count, len(rows), paired, equal, low, denoised, change)


def _interval(values: Sequence[float], patients: Sequence[object], seed: int) -> Interval:
    if not values:
        return Interval(math.nan)
    if len(set(patients)) < ENOUGH:
        return Interval(math.fsum(values) / len(values))
    return bootstrap(values, groups=patients, seed=seed)
