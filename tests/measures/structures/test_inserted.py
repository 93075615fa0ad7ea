"""Structures in a layer whose figures are known as matrices, one that removes small discs alone, and images of two sizes."""

import numpy as np
import pytest
import torch
from linear_layer import LinearLayer
from torch import nn

from invkit.data.dose.texture import noise_power
from invkit.denoisers.oracles.planted import WithoutDiscs
from invkit.fiber.tangent import Tangent
from invkit.images.tissue import TISSUES, places_for
from invkit.measures.structures import inserted, plan
from invkit.measures.structures.hidden import Hidden
from invkit.measures.structures.inserted import CONTRASTS, measure_inserted
from invkit.measures.structures.plan import PLACES, RADII, Breadth
from invkit.measures.structures.shapes import DISCS, SHAPES
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior
from invkit.split.split import Split
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.marks import Marks
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows
from invkit.training.seeds import derive_seed

TOLERANCE, SIDE = 0.5, 24
MARGIN = 7  # leaves four places for a radius of 4, which smaller ones share
LEVEL = 20.0


def marks(tolerance=TOLERANCE):
    return Marks({"given": tolerance}, 1.0, "given")


@pytest.fixture(scope="module")
def linear():
    return LinearLayer(size=SIDE)


def toleranced(linear, tolerance=TOLERANCE, covariance=None):
    return TolerancedLayer(
        linear.split,
        linear.x,
        linear.split.denoiser(linear.x),
        covariance or linear.covariance,
        linear.windows,
        marks(tolerance),
        Frame(MARGIN, (SIDE, SIDE)),
        linear.tangent,
    )


@pytest.fixture
def unhidden(monkeypatch):
    """Leave out the search for what hides, which has tests of its own."""

    def none(_layer, crops, *_):
        return torch.ones(len(crops.images))

    monkeypatch.setattr(inserted, "largest_unseen", none)
    monkeypatch.setattr(
        inserted, "hidden_with_companion", lambda *given: Hidden(none(*given), torch.zeros_like(given[2]))
    )


def lost(rows):
    return {(row.shape, row.contrast): row.values["detectability_lost"].value for row in rows}


def test_detectability_of_every_kind_is_that_of_the_matrices_at_the_sigma_of_the_draws(linear, unhidden):
    layer = toleranced(linear)
    rows = measure_inserted([layer], [layer], spacing=None, seed=0, full=Breadth())
    assert {row.tissue for row in rows} == {"soft tissue"}
    kinds = [shape for shape in SHAPES if shape.radius <= 4]
    assert {row.shape for row in rows} == set(kinds) and all(row.places == PLACES for row in rows)
    places = places_for(
        linear.x,
        TISSUES[0],
        RADII,
        PLACES,
        seed=derive_seed(0, "structures", "soft tissue", 0),
        part=Frame(MARGIN, (SIDE, SIDE)).interior,
    )
    sigma = Posterior(
        layer.split, layer.x, layer.x, layer.windows, layer.covariance, TOLERANCE, layer.tangent
    ).sigma
    noise = linear.jacobian @ linear.matrix @ linear.jacobian.T + torch.diag((sigma * linear.s) ** 2)
    of_layer, of_image = torch.linalg.inv(noise), torch.linalg.inv(linear.matrix)
    found = lost(rows)
    for shape in kinds:
        d = linear.covariance.blurred(shape.at(places[shape.radius], (SIDE, SIDE))).flatten(1)
        z = d @ linear.jacobian.T
        in_layer, in_image = ((v @ m * v).sum(1).sqrt() for v, m in ((z, of_layer), (d, of_image)))
        expected = float((1 - in_layer / in_image).mean())
        assert 1e-3 < expected < 0.9
        # It has no contrast of its own.
        for contrast in CONTRASTS:
            assert found[shape, contrast] == pytest.approx(expected, rel=3e-3)


def test_no_structure_is_detected_better_than_in_the_image_or_at_a_larger_tolerance(linear, unhidden):
    layers = [toleranced(linear, tolerance) for tolerance in (0.05, 0.5, 5.0)]
    found = [
        lost(measure_inserted([layer], [layer], spacing=None, seed=0, full=Breadth())) for layer in layers
    ]
    for shape in found[0]:
        values = [one[shape] for one in found]
        assert values == sorted(values) and values[0] >= 0 and values[-1] > values[0]


def test_halving_the_floor_of_the_noise_hardly_moves_what_is_detected(linear, unhidden):
    """The kernel of this noise is smooth: a third of all frequencies are at the floor."""

    def power(frequency):
        return noise_power(frequency) * np.exp(-((frequency / 0.3) ** 4))

    found = []
    for floor in (1e-3, 5e-4):
        noise = NoiseCovariance(linear.covariance.deviation, power, floor)
        layer = toleranced(linear, covariance=noise)
        found.append(measure_inserted([layer], [layer], spacing=None, seed=0, full=Breadth()))
    least = noise.gain.square().min()
    assert float((noise.gain.square() < 1.01 * least).double().mean()) > 0.3
    for one, other in zip(*found, strict=True):
        kept = [row.values["detectability_kept"].value for row in (one, other)]
        assert kept[0] == pytest.approx(kept[1], rel=0.05)


def test_a_layer_that_removes_small_discs_keeps_none_of_them_and_all_of_the_others(monkeypatch):
    monkeypatch.setattr(plan, "PLACES", 1)
    side = 33  # with one place for a radius of 8, the middle
    covariance = NoiseCovariance(torch.full((side, side), LEVEL, dtype=torch.float64))
    middle = torch.tensor([[side // 2, side // 2]])
    discs = torch.cat([covariance.blurred(shape.at(middle, (side, side))) for shape in DISCS])
    split = Split(WithoutDiscs(discs, 2).double(), "out")
    x = torch.full((1, 1, side, side), 40.0, dtype=torch.float64)
    unit = Unit((torch.full_like(x, 2**0.5 * LEVEL),), (0.0,), 0.0)
    layer = TolerancedLayer(
        split,
        x,
        split.denoiser(x),
        covariance,
        Windows((8,), unit),
        marks(0.05),
        Frame(8, (side, side)),
        Tangent(split.phi_grad),
    )
    rows = measure_inserted([layer], [layer], spacing=None, seed=0)
    assert [row.shape.radius for row in rows] == [1, 2, 4, 8]
    for row, expected in zip(rows, (0, 0, 1, 1), strict=True):
        assert row.values["contrast_kept"].value == pytest.approx(expected, abs=1e-6)
        assert (row.values["hidden_hu"].value > 1e4) == (expected == 0)
    # What is detected of the others is what is left when nothing is known of the contrasts of the small ones.
    white = covariance.whitened(discs).flatten(1)
    inner = white @ white.T
    across = inner[2:, :2]
    left = (inner[2:, 2:] - across @ torch.linalg.solve(inner[:2, :2], across.T)).diagonal()
    share = (left / inner[2:, 2:].diagonal()).sqrt().tolist()
    kept = [row.values["detectability_kept"].value for row in rows]
    assert kept == pytest.approx([0, 0, *share], rel=0.05, abs=1e-3)


class Soft(nn.Module):
    """Takes differences from the mean of 2 x 2 pixels up to a threshold out."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold
        self.coarse = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))

    def forward(self, x):
        detail = x - self.coarse(x)
        return x - detail.clamp(-self.threshold, self.threshold)


def on(network, name, image, frame, tolerance=0.3):
    split = Split(network, name)
    return TolerancedLayer(
        split,
        image,
        split.denoiser(image),
        NoiseCovariance(torch.full(image.shape[-2:], LEVEL)),
        Windows((8,), Unit((torch.full_like(split.phi(image), LEVEL),), (0.0,), 0.0)),
        marks(tolerance),
        Frame(frame, tuple(image.shape[-2:])),
        Tangent(split.phi_grad),
    )


def noisy(side):
    return 40 + NoiseCovariance(torch.full((side, side), LEVEL)).draws(1, torch.Generator().manual_seed(0))


def test_a_threshold_shows_in_the_contrasts(unhidden):
    layer = on(nn.Sequential(Soft(1.0), nn.Identity()), "0", torch.full((1, 1, 64, 64), 40.0), 4)
    rows = measure_inserted([layer], [layer], spacing=0.5, seed=0, full=Breadth())
    kept = {
        row.contrast: row.values["contrast_kept"].value
        for row in rows
        if (row.shape.kind, row.shape.size) == ("line_pair", 2.0)
    }
    assert list(kept) == list(CONTRASTS)
    # Of weak lines nothing but the coarse part is left, of strong ones all beyond the threshold.
    assert list(kept.values()) == sorted(kept.values())
    assert kept[3.0] < 0.7 and kept[100.0] > 0.9


def test_a_discs_verdict_does_not_depend_on_the_size_of_the_image_around_it():
    network, large = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2)), noisy(160)
    rows = []
    for image, frame in ((large, 78), (large[..., 32:128, 32:128], 46)):
        layer = on(network, "0", image, frame)
        rows += measure_inserted([layer], [layer], spacing=None, seed=0)
    small, same = rows
    for name in ("contrast_kept", "detectability_lost", "hidden_hu", "hidden_companion_hu"):
        assert same.values[name].value == pytest.approx(small.values[name].value, rel=1e-3)


def test_full_measures_every_tissue_and_says_what_that_costs_before_it_begins(unhidden):
    image = noisy(96)
    image[..., :48] -= 840
    layer, said = on(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Identity()), "0", image, 4), []
    image[..., 40:] = image[..., 40:].clamp(min=-200)
    rows = measure_inserted([layer], [layer], spacing=0.5, seed=0, full=Breadth(said.append))
    assert [row.tissue for row in rows] == ["soft tissue"] * 40 + ["lung"] * 40
    (cost,) = said
    assert cost.startswith("16 more structures in soft tissue and lung: about ")
    assert cost.endswith(" seconds of processor time")
    by_default = measure_inserted([layer], [layer], spacing=0.5, seed=0)
    assert list(by_default) == [row for row in rows[:16] if row.contrast == 10]


def test_a_tissue_without_places_is_sought_elsewhere_at_the_same_tolerance(unhidden, monkeypatch):
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    here, asked = on(network, "0", noisy(96), 4), []
    lung = on(network, "0", noisy(96) - 840, 4, tolerance=0.9)
    lung_alone = measure_inserted([lung.at(here.tolerance)], [lung], spacing=None, seed=0, full=Breadth())

    def elsewhere(tissue):
        asked.append(tissue.name)
        return ([lung], [lung]) if tissue.name == "lung" else None

    rows = measure_inserted([here], [here], spacing=None, seed=0, full=Breadth(elsewhere=elsewhere))
    assert asked == ["lung", "bone"]
    assert [row.tissue for row in rows] == ["soft tissue"] * 40 + ["lung"] * 40
    assert list(rows[40:]) == list(lung_alone)
    # By default the next tissue takes the place of one that has none.
    assert {row.tissue for row in measure_inserted([lung], [lung], spacing=None, seed=0)} == {"lung"}


def test_rows_say_what_they_are_of(linear, unhidden):
    layer = toleranced(linear)
    rows = measure_inserted([layer], [layer], spacing=0.5, seed=0, full=Breadth())
    figures = {row.shape: row.figures() for row in rows}
    for shape, row in figures.items():
        disc = shape.kind == "disc"
        assert row["kind"] == shape.kind
        assert (row["radius_px"], row["radius_mm"]) == (
            (shape.size, shape.size / 2) if disc else (None, None)
        )
        assert (row["size_px"], row["size_mm"]) == ((None, None) if disc else (shape.size, shape.size / 2))
    unknown = measure_inserted([layer], [layer], spacing=None, seed=0)
    assert all(row.figures()["radius_mm"] is None for row in unknown)


def test_an_image_without_a_place_has_no_rows(linear):
    layer = toleranced(linear)
    air = TolerancedLayer(
        layer.split,
        layer.x - 3000,
        layer.f_x,
        layer.covariance,
        layer.windows,
        layer.marks,
        layer.frame,
        layer.tangent,
    )
    said = []
    assert measure_inserted([air], [air], spacing=None, seed=0, full=Breadth(said.append)) == ()
    assert said == []
