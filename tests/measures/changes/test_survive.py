"""What survives of a proposed change: for projections it is known in closed form, for planted blind spots by construction."""

import math

import pytest
import torch

from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.oracles.oracle import ORACLES
from invkit.measures.changes.propose import apart, given, inserted, removed, shifted, smooth
from invkit.measures.changes.survive import survive
from invkit.split.split import Split


@pytest.fixture
def image():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    blob = 80 * torch.exp(-((rows - 40) ** 2 + (columns - 22) ** 2) / 18)
    return (40 + blob + 0.1 * columns)[None, None]


def oracle(name):
    spec = next(spec for spec in ORACLES if spec.name == f"oracle-{name}")
    return Split(load_denoiser(spec), spec.layers[0].key)


def test_a_change_has_its_contrast_and_nothing_has_none(image):
    for change in (
        inserted(image, 4, 100.0, 4, seed=0),
        removed(image, 5, 2, seed=0),
        shifted(image, 6, 2, 2, seed=0),
        given(
            "v", "v", 50 * smooth(torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)), 2)
        ),
    ):
        left = change.left(change.whole)
        torch.testing.assert_close(left, change.contrast, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(change.left(-0.5 * change.whole), -0.5 * left, rtol=1e-4, atol=1e-4)
        assert (change.left(torch.zeros(3, 1, 64, 64)) == 0).all()


def test_the_tolerance_allows_what_cauchy_schwarz_says(image):
    change = inserted(image, 3, 100.0, 3, seed=0)
    for structure, allowed in enumerate(change.allowed(0.5)):
        worst = change.weights[structure].double()
        worst = 0.5 * worst / worst.square().mean().sqrt()
        assert change.left(worst)[structure] == pytest.approx(float(allowed), rel=1e-6)


def test_structures_keep_apart_and_within_tissue(image):
    image[..., :32] = -1000.0
    places = apart(image, 4, 6, seed=1)
    assert len(places) >= 2
    for index, (row, column) in enumerate(places):
        assert column >= 32 and 12 <= row < 52
        for other in places[:index]:
            assert math.dist((row, column), other) >= 24
    first = apart(image, 4, 1, seed=1)[0]
    taken = (*(float(value) for value in first), 4.0)
    assert all(math.dist(first, place) >= 22 for place in apart(image, 2, 9, seed=1, taken=[taken]))
    assert apart(torch.full((1, 1, 32, 32), -1000.0), 4, 1, seed=0)  # no tissue: anywhere


def test_what_is_removed_is_the_strongest_structure(image):
    change = removed(image, 5, 1, seed=0)
    row, column = divmod(int(change.fields[0, 0].abs().argmax()), 64)
    assert math.dist((row, column), (40, 22)) < 3
    assert change.fields[0, 0, 40, 22] < -20  # a bright structure becomes darker


def test_nothing_to_change_is_no_change():
    flat = torch.full((1, 1, 48, 48), 40.0)
    assert removed(flat, 5, 1, seed=0) is None
    assert shifted(flat, 5, 2, 1, seed=0) is None
    assert inserted(flat[..., :8, :8], 6, 50.0, 1, seed=0) is None
    assert given("v", "v", torch.zeros(1, 1, 48, 48)) is None


def test_a_projection_leaves_what_it_is_blind_to(image):
    split = oracle("linear-lowpass")
    change = inserted(image, 2, 100.0, 3, seed=0)
    (found,) = survive(split.phi, split.phi_grad, image, [[change]], 1e-4)
    assert found.certified
    expected = change.whole - split.phi(change.whole[None])[0]
    torch.testing.assert_close(found.left, change.left(expected), rtol=1e-3, atol=0.02)
    assert (found.image - image[0] - expected).abs().max() < 0.05


def test_a_layer_that_keeps_everything_leaves_nothing(image):
    split = oracle("injective")
    changes = [inserted(image, radius, 100.0, 3, seed=0) for radius in (2, 4)] + [
        removed(image, 5, 2, seed=0)
    ]
    for found in survive(split.phi, split.phi_grad, image, [changes[:1], changes[1:]], 0.01):
        assert found.certified
        # The network is invertible: no more than the distance over its least gain.
        assert (found.image - image[0]).square().mean().sqrt() <= found.distance / 0.25
        assert (found.left.abs() <= found.change.allowed(0.04)).all()


def test_a_planted_region_keeps_every_change_within_it(image):
    split = oracle("planted-region")
    rows, columns = slice(16, 40), slice(24, 48)
    inside = image[..., rows, columns]
    local = inserted(inside, 4, 100.0, 1, seed=0).whole
    field = torch.zeros_like(image)
    field[0, 0, rows, columns] = local
    elsewhere = torch.zeros_like(image)
    elsewhere[0, 0, 40:64, 0:24] = local
    changes = [given("in", "inside", field), given("out", "outside", elsewhere)]
    kept, gone = survive(split.phi, split.phi_grad, image, [[change] for change in changes], 1e-3)
    assert kept.certified and gone.certified
    assert kept.left[0] == pytest.approx(float(kept.change.contrast[0]), rel=1e-3)
    assert abs(gone.left[0]) < 0.01 * gone.change.contrast[0]
