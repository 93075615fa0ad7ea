"""Planted blind spots are found and an injective network has none; what is measured is what the definitions say."""

import numpy as np
import pytest
import torch

from invkit.certificates.certify import Certified
from invkit.data.dose.image import estimate_noise, simulate_low_dose
from invkit.data.dose.texture import noise_texture
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.oracles.oracle import ORACLES
from invkit.fiber.refine import refine
from invkit.fiber.scale import activation_scale
from invkit.images.region import choose_region
from invkit.measures.variation import Scene, choose_window, concluded, measure_variation
from invkit.report.data import LayerFigures
from invkit.report.theme import LIGHT
from invkit.report.variation import certificate_tables, variation_tables
from invkit.report.variation_plot import changes_figure
from invkit.sampling.layer import ScaledLayer, epsilon_of
from invkit.split.split import Split
from invkit.statistics.intervals import number
from invkit.statistics.tree import as_json
from invkit.verdict.measures import Certification, Measures
from invkit.verdict.rules import judge

ETA = 0.1
SIZE = 64
SAMPLES = 8


def picture(seed, size=SIZE, noise=8.0):
    """Return soft tissue with a few smooth structures and noise, `(1, 1, size, size)`, HU."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    image = torch.full((size, size), 40.0)
    for row, column, height in torch.rand(12, 3, generator=draw).tolist():
        square = (rows - row * size).square() + (columns - column * size).square()
        image += 120 * (height - 0.5) * torch.exp(-square / 40)
    return image[None, None] + noise * noise_texture(1, size, size, generator=draw)


def measured(name):
    spec = next(spec for spec in ORACLES if spec.name == f"oracle-{name}")
    split = Split(load_denoiser(spec), spec.layers[0].key)
    x = picture(0)
    others = torch.cat([picture(seed) for seed in range(1, 9)])
    scale = activation_scale(split.phi, others, 16)
    input_scale = activation_scale(lambda images: images, others, 16)
    noise = 8 * noise_texture(SAMPLES, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    epsilon = epsilon_of(ETA)
    refined = refine(split.phi, split.phi_grad, x + noise, split.phi(x), epsilon * scale)
    found = refined.certificates
    proven = Certified(
        refined.images,
        x + noise,
        type(found)(
            before=found.before / scale,
            after=found.after / scale,
            moved=found.moved,
            steps=found.steps,
            products=found.products,
            epsilon=epsilon,
        ),
        torch.zeros(SAMPLES),
        torch.ones(SAMPLES),
    )
    assert proven.certificates.holds.all()
    layer = ScaledLayer.of(split, scale, ETA, input_scale)
    variation = measure_variation(layer, Scene(x, others, seed=0), [proven])
    return variation, proven, x


def test_every_refined_sample_has_its_certificate_in_a_table():
    _, proven, _ = measured("planted-band")
    (table,) = certificate_tables(proven.rows(0))
    assert len(table.rows) == SAMPLES
    assert {len(row) for row in table.rows} == {len(table.headings)}
    cells = dict(zip(table.headings, table.rows[2], strict=True))
    row = proven.rows(0)[2]
    assert cells["Sample"] == "3"
    assert cells["Certified"] == "yes"
    assert cells["Distance before"] == number(row["fiber_error_before"])
    assert cells["after"] == number(row["fiber_error"])
    assert cells["Steps"] == str(row["steps"])
    assert cells["Plausible"] == ""
    (longer,) = certificate_tables(proven.rows(0) * 3)
    assert len(longer.rows) == 16
    assert "the first 16 of 24" in longer.caption
    assert certificate_tables([]) == []


def conclusion(variation):
    measures = Measures(
        layer="the oracle", spread=1.0, certification=Certification(SAMPLES, SAMPLES, 1e-3, 0.1)
    )
    return concluded(measures, judge(measures), variation, "")[0]


@pytest.fixture(scope="module")
def injective():
    return measured("injective")


def test_an_injective_network_has_no_blind_spot(injective):
    variation, proven, x = injective
    assert variation.anatomy.certified == variation.anatomy.tried == 2
    for kind in variation.anatomy.kinds:
        # Invertible with least gain 1/4 and largest 9/4: what is left is the tolerance's, of s_Phi over s_input.
        assert not kind.found and abs(kind.largest) <= 9 * kind.allowed
    said = conclusion(variation)
    assert said.interpretable and said.anatomy is False
    bound = max(kind.largest for kind in variation.anatomy.kinds)
    assert f"at most {number(bound)} HU remained in 2 certified" in said.text
    assert (proven.samples - x).square().mean().sqrt() < 1


def test_the_figures_are_those_of_the_certified_samples(injective):
    variation, proven, x = injective
    total = (proven.samples - x).double().square().mean().sqrt()
    assert variation.split.total.value == pytest.approx(float(total), rel=1e-4)
    pairs = [
        (one - other).double().square().mean()
        for i, one in enumerate(proven.samples)
        for j, other in enumerate(proven.samples)
        if i != j
    ]
    assert variation.diversity.rmse.value == pytest.approx(float(torch.stack(pairs).mean().sqrt()), rel=1e-4)
    # Between the least and the largest gain of two residual blocks, per pixel of as many elements.
    assert 0.25 / SIZE <= variation.gain.noise.value / SIZE <= 2.25 / SIZE
    assert variation.transfer is None


@pytest.mark.parametrize("name", ["planted-region", "planted-disc"])
def test_a_planted_blind_spot_is_found(name):
    variation, _, _ = measured(name)
    found = [kind for kind in variation.anatomy.kinds if kind.found]
    assert found and conclusion(variation).anatomy is True
    for kind in found:
        assert kind.largest > kind.allowed
        assert kind.largest <= 1.2 * max(kind.proposed, 100.0)
    assert "an anatomical change was found that it does not see" in conclusion(variation).text


def test_a_band_that_holds_noise_alone_is_no_anatomy():
    variation, _, _ = measured("planted-band")
    assert variation.noise.value > 10 * variation.allowed
    # What survives is noise within the band: bands of width 0.05, so those from 0.2 to 0.3.
    power = variation.split.difference_power
    inside = sum(power[index] for index, f in enumerate(variation.split.frequency) if 0.2 < f < 0.3)
    assert inside > 0.95 * sum(power)
    assert not variation.split.found


def test_tables_hold_every_change_and_every_size(injective):
    figures = as_json(injective[0])
    changes, lesions = variation_tables({"variation": figures})
    assert [row[0] for row in changes.rows] == [kind["label"] for kind in figures["anatomy"]["changes"]]
    assert [row[0] for row in lesions.rows] == ["2", "4", "8"]
    for curve in figures["lesion"].values():
        for size in curve["sizes"]:
            size["radius_mm"] = 0.7 * size["radius_px"]
    lesions = variation_tables({"variation": figures})[1]
    assert [row[0] for row in lesions.rows] == ["2 (1.4 mm)", "4 (2.8 mm)", "8 (5.6 mm)"]
    assert variation_tables({}) == []


def test_large_images_are_measured_on_a_window_of_soft_tissue():
    x = torch.full((1, 1, 300, 400), -1000.0)
    x[..., 150:290, 240:390] = 40.0
    window = choose_window(x)
    assert not window.whole and window.crop(x).shape[-2:] == (128, 128)
    assert (window.crop(x) > 0).float().mean() > 0.9
    around = choose_window(x, choose_region("10,20,30,30", (300, 400)))
    assert (around.rows.start, around.columns.start) == (0, 0)
    assert choose_window(x[..., :100, :128]).whole


@pytest.mark.slow
def test_the_first_layer_of_chen2017_sees_its_noise():
    from invkit.plugins.load import load

    split = Split(load("chen2017"), "1")
    y = torch.cat([picture(seed, 128, 0.0) for seed in range(12)])
    draw = torch.Generator().manual_seed(0)
    levels = torch.full((12,), 20.0)
    patches = simulate_low_dose(y, noise=levels, dose=0.25, generator=draw)
    again = simulate_low_dose(y, noise=levels, dose=0.25, generator=draw)
    scale = activation_scale(split.phi, patches, 24)
    eta = (
        torch.stack(
            [
                (split.phi(a[None]) - split.phi(b[None])).square().mean()
                for a, b in zip(patches, again, strict=True)
            ]
        )
        .mean()
        .sqrt()
        .item()
        / scale
    )
    x = patches[:1]
    noise = estimate_noise(x[0, 0]) * noise_texture(SAMPLES, 128, 128, generator=draw)
    refined = refine(split.phi, split.phi_grad, x + noise, split.phi(x), epsilon_of(eta) * scale)
    assert refined.certificates.holds.all()

    def spread(images):
        return images.double().std(0).square().mean().sqrt().item()

    assert spread(refined.images) <= 0.5
    assert spread(refined.images) <= 0.02 * spread(x + noise)


def test_the_figure_has_a_row_for_each_change_and_none_for_nothing(injective):
    image = np.zeros((8, 8))
    figures = as_json(injective[0])
    shown = LayerFigures("features", image, image, image, image[None], metrics={"variation": figures})
    figure = changes_figure("an oracle", [shown], LIGHT)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == [change["label"] for change in figures["anatomy"]["changes"]]
    left = next(line for line in figure.axes[0].lines if line.get_label() == "remaining, max.")
    expected = [max(change["largest_hu"], 0.01) for change in figures["anatomy"]["changes"]]
    assert list(left.get_xdata()) == pytest.approx(expected)
    bare = LayerFigures("features", image, image, image, image[None])
    assert changes_figure("an oracle", [bare], LIGHT) is None
