"""The wavelet flow against its contract, autograd and closed forms."""

import math

import pytest
import torch
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.fit import (
    WaveletTask,
    dequantisation_entropy,
    wavelet_fit_config,
    wavelet_nll_rows,
)
from invkit_samplers.wavelet.flow import WaveletFlow
from invkit_samplers.wavelet.haar import haar, pack, unhaar, unpack
from invkit_samplers.wavelet.store import wavelet_from, wavelet_state

from invkit import ArtifactError, UsageError
from invkit.samplers import Shard
from invkit.training.engine import fit

INPUTS = 3
SMALL = {"levels": 2, "couplings": 2, "hidden": 6, "context": 5, "patch": 16, "bf16": False}
KINDS = {
    "image": WaveletConfig(**SMALL),
    "channels": WaveletConfig(**SMALL, channels=2, squeeze=False),
    "one level": WaveletConfig(**SMALL | {"levels": 1}),
    "no couplings": WaveletConfig(**SMALL | {"couplings": 0}),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(config: WaveletConfig, *, spread: float = 0.3, dtype: torch.dtype = torch.float64) -> WaveletFlow:
    """Return a flow whose parameters are all away from where they start."""
    flow = WaveletFlow(config, INPUTS).to(dtype).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            noise = torch.randn(parameter.shape, generator=seeded(parameter.numel()), dtype=torch.float64)
            parameter.add_(spread * noise.to(dtype))
    return flow


def grids(config: WaveletConfig, n: int, side: int, dtype: torch.dtype = torch.float64, seed: int = 0):
    r = torch.randn(n, config.channels, side, side, generator=seeded(seed), dtype=torch.float64)
    of_z = torch.randn(
        n, INPUTS, side // config.unit, side // config.unit, generator=seeded(seed + 1), dtype=torch.float64
    )
    return r.to(dtype), of_z.to(dtype)


def test_the_wavelet_basis_is_orthonormal():
    unit = torch.eye(16, dtype=torch.float64).view(16, 1, 4, 4)
    matrix = pack(*haar(unit)).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), atol=1e-12, rtol=0)
    x = torch.randn(2, 3, 8, 6, generator=seeded(0), dtype=torch.float64)
    torch.testing.assert_close(unhaar(*haar(x)), x, atol=1e-12, rtol=0)
    for part, same in zip(unpack(pack(*haar(x))), haar(x), strict=True):
        assert torch.equal(part, same)


def test_a_constant_has_no_details_and_an_edge_has_those_across_it():
    low, details = haar(torch.full((1, 1, 4, 4), 7.0))
    assert torch.equal(low, torch.full((1, 1, 2, 2), 14.0))
    assert not details.any()
    edge = torch.tensor([1.0, 0.0]).repeat(4, 2)[None, None]
    horizontal, vertical, diagonal = haar(edge)[1][0]
    assert horizontal.all()
    assert not vertical.any()
    assert not diagonal.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_inverse(kind, dtype, tolerance):
    flow = built(KINDS[kind], spread=0.15, dtype=dtype)
    r, of_z = grids(flow.config, 2, 32, dtype)
    with torch.no_grad():
        h = flow.embed(of_z)
        v, _ = flow(r, h)
        assert (flow.inverse(v, h) - r).abs().max() < tolerance
        assert (flow(flow.inverse(r, h), h)[0] - r).abs().max() < tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_log_det_is_that_of_autograd(kind):
    flow = built(KINDS[kind])
    r, of_z = grids(flow.config, 2, 8)
    h = flow.embed(of_z)
    v, log_det = flow(r, h)
    assert v.shape == r.shape
    for row in range(2):
        own = tuple(grid[row : row + 1].detach() for grid in h)
        jacobian = torch.autograd.functional.jacobian(lambda one, own=own: flow(one[None], own)[0][0], r[row])
        n = r[row].numel()
        assert torch.linalg.slogdet(jacobian.reshape(n, n))[1].item() == pytest.approx(
            log_det[row].item(), abs=1e-8
        )


def test_one_condition_serves_many_samples_as_if_it_were_repeated():
    flow = built(KINDS["image"])
    v, _ = grids(flow.config, 3, 16)
    of_z = grids(flow.config, 1, 16)[1]
    once = flow.inverse(v, flow.embed(of_z))
    torch.testing.assert_close(once, flow.inverse(v, flow.embed(of_z.expand(3, -1, -1, -1))))
    log_det = flow(once, flow.embed(of_z))[1]
    assert log_det.shape == (3,)


@pytest.mark.parametrize("side", [16, 128])
def test_no_parameters_and_no_condition_let_a_sample_run_away(side):
    """Layer by layer: a coupling adds at most its shift and scales by at most e^bound, per position, and so on."""
    config = WaveletConfig(**SMALL)
    flow = built(config, spread=100.0, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith(("log_scale", "centre")):
                parameter.zero_()
    v, of_z = grids(config, 2, side, torch.float32)
    with torch.no_grad():
        r = flow.inverse(v, flow.embed(1e6 * of_z))
    widest = 0.0
    for channels, level in [(12, flow.levels[0]), (4, flow.top)]:
        bound = v.abs().max().item() * math.sqrt(channels)
        for _ in level.couplings:
            bound = (bound + 2 * config.shift_bound * math.sqrt(channels)) * math.exp(2 * config.scale_bound)
        widest = max(widest, bound * math.exp(config.spread_bound) + config.mean_bound * math.sqrt(channels))
    # A pixel is the sum of one coarse and three detail coefficients a level, halved each time.
    assert r.abs().max() <= widest * (1 + 1.5 * config.levels)


def test_gradients_reach_every_parameter():
    flow = built(KINDS["image"])
    flow.nll(*grids(flow.config, 2, 16)).sum().backward()
    assert [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_white_noise_has_its_closed_form_likelihood_from_the_start():
    config = WaveletConfig(**SMALL)
    flow = WaveletFlow(config, INPUTS).double().eval()
    sigma, centre = 23.0, -400.0
    r, of_z = grids(config, 2000, 16)
    flow.start(sigma * r + centre, of_z)
    fresh, of_z = grids(config, 500, 16, seed=7)
    nll = flow.nll(sigma * fresh + centre, of_z)
    exact = 0.5 * fresh.square().flatten(1).mean(1) + math.log(sigma) + 0.5 * math.log(2 * math.pi)
    assert (nll - exact).mean().abs() < 2e-3
    assert (nll - exact).abs().max() < 0.05


def test_what_does_not_fit_is_refused():
    flow = built(KINDS["image"])
    r, of_z = grids(flow.config, 1, 16)
    with pytest.raises(UsageError, match="multiples of 8"):
        flow(r[..., :12], flow.embed(of_z))


def test_stored_and_built_again_it_is_the_same():
    flow = built(KINDS["image"], dtype=torch.float32)
    tensors, meta = wavelet_state(flow)
    again = wavelet_from(tensors, meta)
    pair = grids(flow.config, 2, 16, torch.float32)
    assert torch.equal(again.nll(*pair), flow.nll(*pair))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    name = next(iter(tensors))
    with pytest.raises(ArtifactError, match="not finite"):
        wavelet_from(tensors | {name: torch.full_like(tensors[name], math.nan)}, meta)
    with pytest.raises(ArtifactError, match="Train it again"):
        wavelet_from({key: value for key, value in tensors.items() if key != name}, meta)
    with pytest.raises(ArtifactError, match="Train it again"):
        wavelet_from(tensors, {"inputs": INPUTS})


class Field:
    """Gaussian fields r on a torus, correlated over a pixel or two, around a plane that z tells.

    r = z + L e; z has variance 4 at every pixel and is known, L is a circular filter, so p(r | z) = N(z, L L^T).
    """

    side = 16

    def __init__(self, filtered: float) -> None:
        kernel = torch.zeros(self.side, self.side)
        kernel[0, 0] = 1.0
        for row, column in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            kernel[row, column] = filtered
        self.response = torch.fft.fft2(kernel.double())

    @property
    def entropy(self) -> float:
        """Of r given z, nats per pixel, with the noise of variance 0.01 that the task adds."""
        power = self.response.abs().square() + 0.01
        return 0.5 * (math.log(2 * math.pi * math.e) + power.log().mean().item())

    def pairs(self, seed: int):
        def draw(step: int, shard: Shard):
            random = seeded(1000 * seed + step)
            noise = torch.randn(64, 1, self.side, self.side, generator=random)
            r = torch.fft.ifft2(torch.fft.fft2(noise.double()) * self.response).real.float()
            z = 2 * torch.randn(64, 1, self.side, self.side, generator=random)
            return (r + z)[shard.slice(64)], torch.nn.functional.pixel_unshuffle(z, 4)[shard.slice(64)]

        return draw


@pytest.mark.slow
def test_conditional_gaussian_fields_are_learned_to_their_closed_form(tmp_path):
    field = Field(0.2)
    config = WaveletConfig(
        levels=2, couplings=4, hidden=48, context=48, patch=16, batch=64, start=512, steps=900, lr=3e-3,
        held_out=512, evaluate_every=300, dequantisation=0.1, bf16=False, mean_bound=20.0,
    )  # fmt: skip
    flow = WaveletFlow(config, 16)
    task = WaveletTask(flow, field.pairs(1), field.pairs(2))
    before = task.evaluate(0)["nll"]
    result = fit(task, wavelet_fit_config(config), tmp_path)
    nll = wavelet_nll_rows(flow, field.pairs(3), 2048, seed=0).double()
    gap, error = nll.mean().item() - field.entropy, (nll.std() / len(nll) ** 0.5).item()
    assert -4 * error < gap < 0.02 + 4 * error, (gap, error)
    assert before > result.metrics["nll"] > dequantisation_entropy(config)
    # z of a single image, drawn many times: covariance and mean are those of the closed form.
    _, of_z = field.pairs(4)(0, Shard(0, 1))
    with torch.no_grad():
        draws = flow.inverse(torch.randn(1024, 1, 16, 16, generator=seeded(5)), flow.embed(of_z[:1]))
    assert (draws.var(0).mean() - (1 + 4 * 0.2**2 + 0.01)).abs() < 0.1
    z = torch.nn.functional.pixel_shuffle(of_z[:1], 4)
    assert (draws.mean(0) - z[0]).square().mean().sqrt() < 0.25
