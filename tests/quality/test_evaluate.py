"""The benchmark's figures on whole slices, against its own formulas in scikit-image on HU + 1024."""

import csv
import io
import math
from functools import partial

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, structural_similarity

from invkit.artifacts import save
from invkit.data.slices import Slice, SliceSet, load_slices, split_meta
from invkit.denoisers.spec import Affine, Denoiser, Weights
from invkit.errors import ArtifactError, DataError, DenoiserError, UsageError
from invkit.images.window import EXAM_WINDOWS
from invkit.plugins.load import load
from invkit.quality.benchmark import FIGURES, benchmark_figures
from invkit.quality.evaluate import ENOUGH, evaluate
from invkit.quality.vif import vif
from invkit.quality.whole_slices import slice_pairs

SIDE = 48
BENCHMARK_WINDOWS = {"C": (1024 - 600, 1500), "L": (1024 + 50, 400), "N": (1024 + 40, 80)}


class Halved(torch.nn.Module):
    """Moves every pixel half-way to the mean of its neighbours."""

    def forward(self, x):
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return 0.5 * x + 0.5 * torch.nn.functional.avg_pool2d(padded, 3, stride=1)


def pixels(seed: int, level: float, noise: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    smooth = np.kron(random.normal(level, 60, (6, 6)), np.ones((8, 8)))
    return (smooth + random.normal(0, noise, (SIDE, SIDE))).astype(np.float32)


def one(exam: str, patient: int, *, paired: bool, noise: float = 12.0, number: int = 0) -> Slice:
    level = {"C": -600.0, "L": 50.0, "N": 40.0}.get(exam, 0.0)
    seed = 1000 * patient + number
    full = pixels(seed, level, noise)
    low = full + np.random.default_rng(seed + 500).normal(0, 25 + patient, full.shape).astype(np.float32)
    return Slice(
        patient=f"{exam}{patient:03d}",
        source="ldct",
        noise=noise,
        spacing=None,
        pixels=lambda: full,
        low=(lambda: low) if paired else None,
        exam=exam,
    )


def collection(*slices: Slice) -> SliceSet:
    return SliceSet(tuple(slices), "f" * 64, "made by hand")


@pytest.fixture(scope="module")
def paired():
    """Six patients a type, two slices each, all with a real partner."""
    return collection(
        *(
            one(exam, patient, paired=True, number=n)
            for exam in "CLN"
            for patient in range(6)
            for n in range(2)
        )
    )


def windowed(image: np.ndarray, exam: str) -> np.ndarray:
    """The benchmark's display window, branch by branch as its code has it."""
    center, width = BENCHMARK_WINDOWS[exam]
    lower, upper = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    result = ((image - (center - 0.5)) / (width - 1) + 0.5).astype(np.float64)
    result[image <= lower] = 0.0
    result[image > upper] = 1.0
    return result


def by_the_benchmark(target: np.ndarray, prediction: np.ndarray, exam: str) -> dict[str, float]:
    target, prediction = target.astype(np.float64) + 1024, prediction.astype(np.float64) + 1024
    t, p = windowed(target, exam), windowed(prediction, exam)
    clipped = [np.clip(image, 0.0, 2924.0) for image in (target, prediction)]
    return {
        "ssim": structural_similarity(t, p, data_range=1.0),
        "psnr_db": 10 * np.log10(1 / mean_squared_error(t, p)),
        "rmse_hu": np.sqrt(mean_squared_error(*clipped)),
    }


def test_figures_are_those_of_the_benchmark(paired):
    network = Halved()
    found = evaluate(network, paired, part="all")
    assert [exam.exam for exam in found.exams] == ["C", "L", "N"]
    for exam in found.exams:
        assert (exam.patients, exam.slices, exam.paired, exam.equal) == (6, 12, 12, 0)
        expected = {"low_dose": [], "denoised": []}
        for item in paired.slices:
            if item.exam == exam.exam:
                x = torch.from_numpy(item.low_image)[None, None]
                out = network(x)[0, 0].numpy()
                expected["low_dose"].append(by_the_benchmark(item.image, item.low_image, exam.exam))
                expected["denoised"].append(by_the_benchmark(item.image, out, exam.exam))
        for image, rows in expected.items():
            for figure in ("ssim", "psnr_db", "rmse_hu"):
                mean = float(np.mean([row[figure] for row in rows]))
                assert getattr(exam, image)[figure].value == pytest.approx(mean, rel=1e-6)
        for figure in FIGURES:
            interval = exam.denoised[figure]
            assert interval.low < interval.value < interval.high
            difference = interval.value - exam.low_dose[figure].value
            assert exam.change[figure].value == pytest.approx(difference, rel=1e-9)


def test_vif_is_given_both_ways_round():
    random = torch.Generator().manual_seed(0)
    target = torch.randn(2, 1, SIDE, SIDE, generator=random) * 100
    prediction = target + 20 * torch.randn(target.shape, generator=random)
    found = benchmark_figures(prediction, target, EXAM_WINDOWS["L"])
    assert found.keys() == FIGURES.keys()
    assert torch.equal(found["vif"], vif(prediction, target, clip=True))
    assert torch.equal(found["vif_swapped"], vif(target, prediction, clip=True))
    assert not torch.allclose(found["vif"], found["vif_swapped"])


def test_the_windows_are_the_benchmarks():
    for exam, (center, width) in BENCHMARK_WINDOWS.items():
        assert EXAM_WINDOWS[exam] == (center - 1024, width)


def test_low_dose_is_simulated_where_there_is_no_partner_and_depends_on_the_slice_alone():
    lone = [one("L", patient, paired=False, noise=10.0, number=n) for patient in range(3) for n in range(2)]
    first = list(slice_pairs(collection(*lone), dose=0.25, seed=3))
    assert [(pair.patient[1], pair.number) for pair in first] == [
        (f"L{p:03d}", n) for p in range(3) for n in range(2)
    ]
    assert not any(pair.paired for pair in first)
    again = list(slice_pairs(collection(*lone[4:]), dose=0.25, seed=3))
    assert torch.equal(again[0].x, first[4].x)
    assert not torch.equal(next(slice_pairs(collection(lone[4]), dose=0.25, seed=4)).x, first[4].x)
    added = torch.cat([pair.x - pair.y for pair in first])
    assert added.std().item() == pytest.approx(10.0 * math.sqrt(3), rel=0.1)
    assert torch.equal(next(slice_pairs(collection(lone[0]), dose=1.0, seed=3)).x, first[0].y)


def test_few_patients_have_no_interval():
    few = collection(*(one("L", patient, paired=True) for patient in range(ENOUGH - 1)))
    (exam,) = evaluate(Halved(), few, part="all").exams
    assert not any(interval.known for interval in exam.denoised.values())
    assert isinstance(exam.to_json()["denoised"]["ssim"], float)


def test_intervals_are_over_patients():
    """Many slices of one patient are no independent witnesses."""
    slices = [one("L", patient, paired=True, number=n) for patient in range(6) for n in range(2)]
    same = [one("L", patient, paired=True) for patient in range(6) for _ in range(4)]
    (single,) = evaluate(
        Halved(), collection(*(one("L", p, paired=True) for p in range(6))), part="all"
    ).exams
    (repeated,) = evaluate(Halved(), collection(*same), part="all").exams
    for figure in FIGURES:
        assert repeated.denoised[figure].low == pytest.approx(single.denoised[figure].low, rel=1e-6)
    assert evaluate(Halved(), collection(*slices), part="all").exams[0].patients == 6


def test_only_test_patients_unless_asked():
    whole = collection(*(one("L", patient, paired=True) for patient in range(10)))
    chosen = {part: evaluate(Halved(), whole, part=part) for part in ("test", "validation", "train", "all")}
    counts = {part: found.exams[0].patients for part, found in chosen.items()}
    assert counts == {"test": 1, "validation": 2, "train": 7, "all": 10}
    test = {row.patient for row in chosen["test"].rows}
    assert test == {(item.source, item.patient) for item in whole.part("test").slices}
    assert evaluate(Halved(), whole).about["part"] == "test"
    assert {found.about["split"] for found in chosen.values()} == {whole.split}


def test_the_exam_type_chooses_the_window_unless_one_is_given():
    unknown = collection(one("other", 1, paired=True), one("L", 2, paired=True))
    with pytest.raises(UsageError, match=r"1 of 2 slices state no exam type .* add --window C"):
        evaluate(Halved(), unknown, part="all")
    found = evaluate(Halved(), unknown, part="all", window="N")
    assert [(exam.exam, exam.window) for exam in found.exams] == [("L", (40, 80)), ("other", (40, 80))]
    with pytest.raises(UsageError, match="windows are auto, C, L, N"):
        evaluate(Halved(), unknown, window="X")
    with pytest.raises(UsageError, match="parts are test"):
        evaluate(Halved(), unknown, part="tests")


def test_phantoms_have_the_exam_type_of_what_they_show():
    slices = load_slices(["phantoms:40"], size=64).part("test")
    found = evaluate(Halved(), slices, part="all")
    assert {exam.exam for exam in found.exams} <= {"C", "L", "N"}
    assert sum(exam.slices for exam in found.exams) == len(slices.slices) == 4
    assert found.about["dose"] == 0.25


def test_slices_that_do_not_differ_on_the_window_have_no_psnr():
    dark = one("N", 7, paired=True)
    black = Slice("N007", "ldct", 12.0, None, lambda: np.full((SIDE, SIDE), -900.0, np.float32), exam="N")
    (exam,) = evaluate(Halved(), collection(dark, black), part="all").exams
    assert (exam.slices, exam.equal) == (2, 1)
    (alone,) = evaluate(Halved(), collection(dark), part="all").exams
    assert exam.denoised["psnr_db"].value == pytest.approx(alone.denoised["psnr_db"].value)
    (nothing,) = evaluate(Halved(), collection(black), part="all").exams
    assert nothing.to_json()["denoised"]["psnr_db"] is None


def test_the_table_of_slices_can_be_read_again(paired):
    found = evaluate(Halved(), paired, part="all")
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(rows) == 2 * len(paired.slices)
    chest = [float(row["ssim"]) for row in rows if row["exam"] == "C" and row["image"] == "denoised"]
    assert float(np.mean(chest)) == pytest.approx(found.exams[0].denoised["ssim"].value, rel=1e-12)
    assert {row["low_dose_is"] for row in rows} == {"paired"}
    assert found.about["dose"] is None


def test_an_empty_part_and_broken_outputs_are_errors():
    with pytest.raises(DataError, match="--part all"):
        evaluate(Halved(), collection(one("L", 1, paired=True)), part="test")

    class Broken(torch.nn.Module):
        def forward(self, x):
            return x / 0

    with pytest.raises(DenoiserError, match="not finite"):
        evaluate(Broken(), collection(one("L", 1, paired=True)), part="all")


def test_a_denoiser_of_another_split_of_the_same_data_is_refused(tmp_path, paired):
    def trained(name, **meta):
        path = tmp_path / f"{name}.safetensors"
        sha256 = save(
            path, torch.nn.Conv2d(1, 1, 1).state_dict(), kind="denoiser", meta={"name": "net", **meta}
        )
        weights = Weights(name, str(path), sha256, "nothing", "MIT")
        build = partial(torch.nn.Conv2d, 1, 1, 1)
        return load(Denoiser("net", build, Affine(0.0, 1000.0), weights=(weights,)))

    same = split_meta(paired)
    evaluate(trained("same", **same), paired)
    evaluate(trained("silent"), paired)
    evaluate(trained("elsewhere", split="0" * 64, splits={"ct-else": "0" * 64}), paired)
    with pytest.raises(ArtifactError, match="different splits"):
        evaluate(trained("other", splits=dict.fromkeys(same["splits"], "0" * 64)), paired)
