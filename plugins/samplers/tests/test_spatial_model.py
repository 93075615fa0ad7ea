"""Draws of spatial codes: their frame, its likelihood, images of any size, and a layer that keeps everything."""

import pytest
import torch
from invkit_samplers.spatial.code import SpatialConfig, SpatialVae
from invkit_samplers.spatial.model import CodeFrame, SpatialModel
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.flow import WaveletFlow
from torch import nn

from invkit import Split
from invkit.denoisers.loaded import wrap_module
from invkit.samplers import ScaledLayer, generator
from invkit.sampling.draw import draw

FLOW = WaveletConfig(
    channels=3, levels=1, squeeze=False, couplings=1, hidden=6, context=6, dequantisation=0.0
)
STEP = 4 * FLOW.multiple  # pixels: sides of padded images are multiples of it


def images(n, side, seed=0):
    return 100 * torch.randn(n, 1, side, side, generator=generator(seed, "images"))


class Known(nn.Module):
    """g of a layer that keeps the image."""

    condition_stages = 0

    def forward(self, z, size, **_):
        return z


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = SpatialVae(SpatialConfig.tiny()).eval()
        vae.start(images(64, 32))
        for network in (vae.encoder, vae.decoder):
            nn.init.normal_(network[-1].weight, 0, 0.02)
        flow = WaveletFlow(FLOW, 2 * 3 * FLOW.unit**2).eval()
        for parameter in flow.parameters():
            nn.init.normal_(parameter, 0, 0.1)
    split = Split(wrap_module(nn.Identity()), "input")
    nothing = torch.zeros(0)
    parts = {"split": split, "regressor": Known(), "vae": vae.requires_grad_(False), "flow": flow}
    return SpatialModel(**parts, meta={}, sha256="", nll_rows=nothing, patients=nothing)


def test_the_frame_is_affine_and_its_volume_is_what_shift_says():
    frame = CodeFrame(*torch.randn(2, 2, 3, 4, 4, dtype=torch.float64))
    code = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(frame.back(frame.into(code)), code)
    one = CodeFrame(frame.mean[:1], frame.log_var[:1])
    jacobian = torch.autograd.functional.jacobian(one.into, code[:1]).reshape(48, 48)
    torch.testing.assert_close(-torch.linalg.slogdet(jacobian)[1] / 48, frame.shift()[0])


def test_where_z_tells_the_image_the_coordinates_of_the_posterior_are_standard_normal(model):
    x = images(1, 64)
    posterior = model.vae.encode(x)
    frame = CodeFrame.of(model.vae, x, FLOW.multiple)
    assert torch.equal(frame.mean, posterior.mean)
    many = torch.cat([frame.into(posterior.sample(generator(k))) for k in range(200)])
    assert float(many.mean()) == pytest.approx(0, abs=0.02)
    assert float(many.var()) == pytest.approx(1, abs=0.02)
    # With z = x nothing of the code is known beyond its posterior: what remains is its entropy, the floor.
    nll = 0.5 * many.square().flatten(1).mean(1) + 0.5 * torch.log(torch.tensor(2 * torch.pi)) + frame.shift()
    floor = 0.5 * (torch.log(torch.tensor(2 * torch.pi * torch.e)) + posterior.log_var.mean())
    assert float(nll.mean()) == pytest.approx(float(floor), abs=0.01)


@pytest.mark.parametrize("size", [(32, 32), (70, 45)])
def test_swapping_in_the_same_z_gives_the_reconstruction(model, size):
    x = images(1, 96)[..., : size[0], : size[1]]
    torch.testing.assert_close(model.swap(x, x, x), model.reconstruct(x), atol=0.05, rtol=0)
    other = images(1, 96, seed=3)[..., : size[0], : size[1]]
    assert (model.swap(x, x, other) - model.reconstruct(x)).abs().max() > 1


def test_draw_k_is_the_same_bit_for_bit_however_many_are_drawn(model):
    x = images(1, 50)[..., :45]
    target = ScaledLayer.of(model.split, 1.0, 0.3, 1.0).at(x)
    few, many = (draw(model.draws(target), target, samples=n, seed=4, image=1).samples for n in (7, 60))
    assert few.shape == (7, 1, 50, 45)
    assert torch.equal(few, many[:7])
    assert not torch.equal(many[0], many[1])
    other = draw(model.draws(target), target, samples=7, seed=4, image=2).samples
    assert not torch.equal(few, other)


def test_draws_stay_in_the_range_that_the_encoder_sees(model):
    """A flow that knows little draws codes that no image has; the linear path would take them anywhere."""
    with torch.no_grad():
        model.flow.top.whitening.log_scale.fill_(-5.0)
    drawn = model.prepare(torch.zeros(1, 1, 32, 32), (32, 32))(0, 0, range(4))
    assert float(drawn.min()) == -1024
    assert float(drawn.max()) == 2000


def test_draws_are_those_of_the_padded_image(model):
    """A size that is no multiple is continued; nothing else differs, and no tile is cut."""
    x = images(1, 2 * STEP)
    whole = model.prepare(x, x.shape[-2:])(0, 0, range(3))
    cut = x[..., : 2 * STEP - 3]
    continued = torch.cat([cut, cut[..., -1:].expand(-1, -1, -1, 3)], dim=-1)
    found = model.prepare(cut, cut.shape[-2:])(0, 0, range(3))
    same = model.prepare(continued, continued.shape[-2:])(0, 0, range(3))
    torch.testing.assert_close(found, same[..., : 2 * STEP - 3])
    assert whole.shape == (3, 1, 2 * STEP, 2 * STEP)
