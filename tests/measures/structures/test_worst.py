"""Low-pass changes against generalised eigenvalues in float64, and against a search that shares nothing with the product's."""

import pytest
import torch
from denoiser_layer import small_layer
from linear_layer import LinearLayer
from noisy_layer import Edges, at_noise
from projected_ascent import Seen, low_pass
from scaled_network import Scaled
from scipy.linalg import eigh

from invkit.measures.structures.hidden import DEVIATIONS
from invkit.measures.structures.lowpass import harmonics
from invkit.measures.structures.worst import BANDS, measure_worst

SIDE, FRAME, TOLERANCE = 32, 3, 0.05


def passing(side, band):
    """Return an orthonormal basis of images of frequencies up to a band, `(side^2, n)`, float64."""
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    keep = torch.hypot(f[:, None], f[None, :]) <= band
    unit = torch.eye(side**2, dtype=torch.float64).view(-1, side, side)
    values, vectors = torch.linalg.eigh(torch.fft.ifft2(torch.fft.fft2(unit) * keep).real.flatten(1))
    return vectors[:, values > 0.5]


def inside(side, frame):
    rows = torch.zeros(side, side, dtype=torch.bool)
    rows[frame : side - frame, frame : side - frame] = True
    return rows.flatten()


def of(layer):
    return measure_worst([layer], [layer], spacing=0.5, seed=0)


def test_in_one_window_it_is_the_generalised_eigenvalue():
    linear = LinearLayer(size=SIDE)
    rows = of(linear.toleranced(TOLERANCE, FRAME))
    assert [row.band for row in rows] == list(BANDS)
    for row in rows:
        basis = passing(SIDE, row.band)
        within = basis[inside(SIDE, FRAME)]
        seen = (linear.jacobian / linear.s[:, None]) @ basis
        forms = (within.T @ within / len(within), seen.T @ seen / len(seen))
        expected = TOLERANCE * eigh(*(form.numpy() for form in forms), eigvals_only=True)[-1] ** 0.5
        assert row.plausible
        assert row.hidden.value == pytest.approx(expected, rel=0.03)
        assert row.figures()["cycles_per_mm"] == row.band / 0.5


def test_what_the_layer_is_blind_to_is_bounded_by_the_noise():
    blind = LinearLayer(size=SIDE)
    with torch.no_grad():
        blind.network[0].weight.zero_()
    for row in of(blind.toleranced(TOLERANCE, FRAME)):
        basis = passing(SIDE, row.band)
        within = basis[inside(SIDE, FRAME)]
        rarity = basis.T @ torch.linalg.inv(blind.matrix) @ basis / basis.shape[1]
        most = eigh((within.T @ within / len(within)).numpy(), rarity.numpy(), eigvals_only=True)[-1]
        assert not row.plausible and row.figures()["bounded_by"] == "noise"
        assert row.hidden.value == pytest.approx(DEVIATIONS * most**0.5, rel=0.03)


def test_no_search_finds_a_stronger_one():
    linear = LinearLayer(size=SIDE, side=8)
    row = of(linear.toleranced(TOLERANCE, FRAME))[-1]
    seen = Seen(linear.split.phi_grad, linear.x, linear.unit.s[0], 8, TOLERANCE)
    most = low_pass(seen, row.band, FRAME, steps=600)
    assert 0.95 * row.hidden.value < most < 1.05 * row.hidden.value


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), [("yang2018", "3"), ("chen2017", "5")])
def test_no_search_finds_a_stronger_one_in_a_denoiser(model, name):
    layer, phi = small_layer(model, name, SIDE)
    row = of(layer)[-1]
    s = layer.windows.unit.s[0].double()
    seen = Seen(phi, layer.x.double(), s, layer.windows.sides[0], layer.tolerance)
    most = low_pass(seen, row.band, layer.frame.pixels, steps=600)
    assert 0.95 * row.hidden.value < most < 1.05 * row.hidden.value


def test_the_image_hides_as_much_as_itself_and_a_shift_by_the_tolerance():
    layer = at_noise(Scaled(), "input", 48)
    for row in of(layer):
        assert row.hidden.value == pytest.approx(row.identity.value, rel=1e-3)
        # S is about the same everywhere, and a change that is the same everywhere has it in all windows.
        assert row.hidden.value > 0.95 * layer.tolerance * float(layer.windows.unit.s[0].min())


def test_a_layer_that_does_not_see_a_band_hides_what_noise_can_be_there():
    layer = at_noise(Edges(), "inner", 64)
    identity = at_noise(Edges(), "input", 64)
    low, _ = measure_worst([layer], [identity], spacing=None, seed=0)
    assert not low.plausible
    assert low.hidden.value > 3 * low.identity.value
    assert low.figures()["cycles_per_mm"] is None


def test_harmonics_are_orthonormal_over_their_period():
    waves, frequencies = harmonics((32, 48), 16, 0.2)
    assert waves.shape[1:] == (1, 32, 48)
    rows = waves.flatten(1)
    assert torch.allclose(rows @ rows.T / rows.shape[1], torch.eye(len(rows), dtype=torch.float64), atol=1e-9)
    assert (frequencies.diff() >= 0).all() and float(frequencies.max()) <= 0.2


def test_where_the_frame_leaves_nothing_there_is_no_row():
    linear = LinearLayer(size=SIDE)
    assert of(linear.toleranced(TOLERANCE, 13)) == ()
