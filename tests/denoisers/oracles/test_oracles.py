"""The oracles are what they claim: each fiber, each bound, by an independent computation in float64."""

import math
import subprocess
import sys

import pytest
import torch

from invkit.denoisers.contract import check_contract
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.oracles.linear import Band, BlockMean
from invkit.denoisers.oracles.oracle import BAND, CUTOFF, LEVELS, ORACLES, STEP, TAU, TAU_DISC
from invkit.denoisers.oracles.planted import (
    BlindDisc,
    BlindRegion,
    BlindSign,
    Injective,
    Planted,
    Residual,
)
from invkit.denoisers.oracles.pointwise import Haar, Quantiser, SoftThreshold
from invkit.errors import SplitError
from invkit.split.split import Split

LEAST_GAIN = 0.25  # (1 - L)^2 of two residual blocks with L = 1/2
SPECS = {spec.name: spec for spec in ORACLES}


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(module, size):
    """Return the matrix of a linear map of images."""
    unit = torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)
    return module(unit).flatten(1).T


@pytest.mark.parametrize("name", SPECS)
def test_an_oracle_is_a_denoiser_like_any_other(name):
    loaded = load_denoiser(SPECS[name])
    x = (100 * randn(2, 1, 24, 20)).float()
    check_contract(loaded, x)
    (layer,) = loaded.spec.layers
    report = Split(loaded, layer.key).check(x)
    assert report.exact
    assert not report.bypass
    assert load_denoiser(SPECS[name]).sha256 == loaded.sha256


def test_no_two_oracles_are_the_same_function():
    assert len({load_denoiser(spec).sha256 for spec in ORACLES}) == len(ORACLES)


def test_naming_them_imports_no_torch():
    code = "import sys, invkit.denoisers.oracles.oracle; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("size", [15, 16])
def test_a_band_is_the_orthogonal_projection_on_its_waves(size):
    kept = matrix(Band(*BAND, keep=True), size)
    torch.testing.assert_close(kept @ kept, kept, atol=1e-12, rtol=0)
    torch.testing.assert_close(kept, kept.T, atol=1e-12, rtol=0)
    rest = matrix(Band(*BAND, keep=False), size)
    torch.testing.assert_close(kept + rest, torch.eye(size * size, dtype=torch.float64), atol=1e-12, rtol=0)
    place = torch.arange(size, dtype=torch.float64)
    for row in range(size):
        for column in range(0, size, 3):
            radius = math.hypot(*(min(k, size - k) / size for k in (row, column)))
            wave = torch.cos(2 * math.pi * (row * place[:, None] + column * place) / size + 0.3).flatten()
            expected = wave if BAND[0] <= radius <= BAND[1] else torch.zeros_like(wave)
            torch.testing.assert_close(kept @ wave, expected, atol=1e-10, rtol=0)


def test_block_means_are_a_projection_too():
    a = matrix(BlockMean(2), 8)
    torch.testing.assert_close(a @ a, a)
    torch.testing.assert_close(a, a.T)
    assert torch.linalg.matrix_rank(a) == 16
    assert torch.linalg.matrix_rank(matrix(Band(0, CUTOFF, keep=True), 16)) < 128


def test_haar_is_orthonormal_and_its_first_number_is_the_mean():
    forward, back = matrix(Haar(LEVELS), 8), matrix(Haar(LEVELS, inverse=True), 8)
    unit = torch.eye(64, dtype=torch.float64)
    torch.testing.assert_close(forward @ forward.T, unit)
    torch.testing.assert_close(back, forward.T)
    torch.testing.assert_close(forward[0], torch.full((64,), 1 / 8, dtype=torch.float64))
    x = randn(2, 1, 16, 32)
    torch.testing.assert_close(Haar(2, inverse=True)(Haar(2)(x)), x)


def test_the_fiber_of_soft_thresholding_is_the_box():
    oracle = SoftThreshold(TAU, LEVELS)
    c = TAU * 1.5 * randn(1, 1, 16, 16)
    detail = torch.ones(16, 16, dtype=torch.bool)
    detail[:2, :2] = False
    killed = (c.abs() <= TAU) & detail
    z = oracle.shrink(c)
    assert torch.equal(z == 0, killed)
    torch.testing.assert_close(z[~killed & detail].abs(), c[~killed & detail].abs() - TAU)
    assert torch.equal(z[..., :2, :2], c[..., :2, :2])
    other = torch.where(killed, TAU * (2 * torch.rand_like(c) - 1), c)
    torch.testing.assert_close(
        oracle(Haar(LEVELS, inverse=True)(other)), oracle(Haar(LEVELS, inverse=True)(c))
    )


def test_the_quantiser_has_cells_and_no_gradient():
    oracle = Quantiser(STEP)
    x = torch.tensor([[[[-31.0, -9.9, 9.9, 10.1]]]], requires_grad=True)
    out = oracle(x)
    assert out.flatten().tolist() == [-40.0, 0.0, 0.0, 20.0]
    assert not out.requires_grad
    split = Split(load_denoiser(SPECS["oracle-quantiser"]), "round")
    with pytest.raises(SplitError, match="passes no gradient"):
        split.phi_grad(x)


def test_a_residual_network_moves_at_least_its_least_gain():
    network = Injective()
    jacobian = torch.func.jacrev(lambda x: network.blocks(x[None, None]).flatten())(30 * randn(10, 10))
    gains = torch.linalg.svdvals(jacobian.reshape(100, 100))
    assert float(gains.min()) > LEAST_GAIN
    assert float(gains.max()) < 2.25
    kernel = Residual(1).kernel
    assert float(kernel.abs().sum()) == pytest.approx(1.0)
    x = 80 * randn(1, 1, 12, 12)
    for seed in range(20):
        d = 10.0 ** (seed % 5 - 1) * randn(1, 1, 12, 12, seed=seed)
        moved = float((network.blocks(x + d) - network.blocks(x)).norm() / d.norm())
        assert LEAST_GAIN < moved < 2.25
        # Not a linear network: its derivative changes with the image.
    assert float((network(2 * x) - 2 * network(x)).abs().max()) > 1


def test_a_region_is_not_seen():
    blind = BlindRegion(0.25, 0.5, 0.5, 0.75)
    x = randn(1, 1, 16, 20)
    out = blind(x)
    hidden = torch.zeros(16, 20, dtype=torch.bool)
    hidden[4:8, 10:15] = True
    assert torch.equal(out == 0, hidden[None, None])
    assert torch.equal(out[..., ~hidden], x[..., ~hidden])


def test_discs_of_low_contrast_are_not_seen_and_others_are():
    blind = BlindDisc(TAU_DISC)
    x = 5 * randn(1, 1, 24, 24).float()
    assert int(blind.disc.sum()) == 13
    assert float(blind.contrast.sum()) == pytest.approx(0, abs=1e-6)
    offset = torch.zeros_like(x)
    offset[..., 8:16, 8:16] = blind.disc
    contrast = float((x[..., 8:16, 8:16] * blind.contrast).sum())
    out = blind(x)
    for c in (20.0, -20.0, TAU_DISC - contrast - 0.01, -TAU_DISC - contrast + 0.01):
        torch.testing.assert_close(blind(x + c * offset), out, atol=1e-4, rtol=0)
    beyond = blind(x + (TAU_DISC - contrast + 7) * offset) - out
    torch.testing.assert_close(beyond, 7 * offset, atol=1e-3, rtol=0)
    moved = offset.roll((4, 4), (-2, -1))
    torch.testing.assert_close(blind(x + 20 * moved) - out, 20 * moved, atol=1e-3, rtol=0)


def test_only_the_mirror_image_is_the_same():
    blind, x = BlindSign(), randn(2, 1, 12, 14)
    wave = (blind(x) - blind(-x) - 2 * x)[0, 0]  # a plane wave times -2 a or 2 a
    wave = wave / wave.norm()
    a = (x * wave).sum((-2, -1), keepdim=True)
    mirror = x - 2 * a * wave
    torch.testing.assert_close(blind(mirror), blind(x))
    assert float((blind(x - a * wave) - blind(x)).abs().max()) > 1e-3
    seen = (blind(x) * wave).sum((-2, -1), keepdim=True)
    torch.testing.assert_close(seen.abs(), a.abs())
    assert len(set(seen.sign().flatten().tolist())) == 1


@pytest.mark.parametrize("blind", [BlindSign(), BlindRegion(0.2, 0.6, 0.2, 0.6), Band(*BAND, keep=False)])
def test_what_is_planted_decides_the_fiber_of_the_whole(blind):
    """Images share the features exactly where they share what the blind spot lets through."""
    planted = Planted(blind)
    x, other = randn(1, 1, 16, 16), randn(1, 1, 16, 16, seed=1)
    passed = blind(x + other) - blind(x)
    least = LEAST_GAIN * float(passed.norm())
    assert float((planted(x + other) - planted(x)).norm()) >= least
    inside = x + (other - blind(other)) if not isinstance(blind, BlindSign) else blind(x)
    torch.testing.assert_close(planted(inside), planted(x), atol=1e-9, rtol=0)
