"""Draws, swaps and reconstructions in codes of a VAE that is given f(x), with networks that are not trained."""

import pytest
import torch
from invkit_samplers.conditional.code import ConditionalConfig, ConditionalVae
from invkit_samplers.conditional.model import ConditionalModel, estimate_and_output
from torch import nn

import invkit
from invkit.flow.config import CinnConfig
from invkit.regressor.regressor import RegressorConfig
from invkit.samplers import CINN, CodeTable, Regressor, invariances
from invkit.sampling.draws import CHUNK

PATCH, OTHERS = 32, 5


class Around(nn.Module):
    """A network with a skip connection round its layers: f(x) = x - b(a(x))."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        return x - self.b(self.a(x))


def images(n, height, width, seed=0):
    return 50 * torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def cut():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1)).eval()


def model(network, layer, **options):
    """Return a model whose networks have random parameters; its VAE is started on the network's residuals."""
    split = invkit.Split(invkit.load(network), layer, **options)
    size = (PATCH, PATCH)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x = images(40, *size, seed=7)
        vae = ConditionalVae(ConditionalConfig.tiny()).eval().requires_grad_(False)
        f_x = split.denoiser(x)
        vae.start(x, f_x, torch.Generator().manual_seed(0))
        for parameter in vae.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        regressor = Regressor(split.phi(x), size, RegressorConfig(hidden=4)).eval().requires_grad_(False)
        regressor.calibrate([(split.phi(x), x)])
        code = vae.encode(x, f_x)
        config = CinnConfig(d=16, blocks=2, hidden=16, context=8, embedder_hidden=16)
        condition = torch.cat([code.mean, code.log_var], dim=1)
        cinn = CINN(config, (32,))
        cinn.initialise(CodeTable(code.mean, code.log_var, condition), seed=0)
        cinn.eval().requires_grad_(False)
    return ConditionalModel(
        split=split,
        regressor=regressor,
        vae=vae,
        others=images(OTHERS, *size, seed=9),
        cinn=cinn,
        meta={},
        sha256="",
        nll_rows=torch.zeros(1),
        patients=torch.zeros(1),
    )


@pytest.mark.parametrize("layer", ["0", "input", "output"])
def test_what_is_given_for_a_cut_is_f_of_the_image(cut, layer):
    one = model(cut, layer)
    x = images(2, 20, 26)
    _, output = estimate_and_output(one.split, one.regressor, one.split.phi(x), (20, 26))
    torch.testing.assert_close(output, one.split.denoiser(x), atol=1e-3, rtol=1e-4)


def test_where_a_connection_goes_round_the_layer_z_decides_what_is_given():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Around().eval()
    one = model(network, "a")
    x = images(1, 24, 24)
    z = one.split.phi(x)
    estimate, output = estimate_and_output(one.split, one.regressor, z, (24, 24))
    with torch.no_grad():
        torch.testing.assert_close(output, estimate - network.b(z), atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("layer", ["0", "const"])
@pytest.mark.parametrize("size", [(PATCH, PATCH), (22, 50)])
def test_a_draw_depends_on_its_index_alone(cut, layer, size):
    one = model(cut, layer)
    z = one.split.phi(images(1, *size))
    draws = one.prepare(z, size)
    whole = draws(0, 0, range(2 * CHUNK))
    assert whole.shape == (2 * CHUNK, 1, *size)
    again = one.prepare(z, size)
    assert torch.equal(again(0, 0, range(CHUNK, 2 * CHUNK)), whole[CHUNK:])
    torch.testing.assert_close(again(0, 0, [3, 1]), whole[[3, 1]], atol=2e-2, rtol=1e-4)
    assert not torch.equal(draws(1, 0, range(CHUNK)), whole[:CHUNK])
    assert not torch.equal(draws(0, 1, range(CHUNK)), whole[:CHUNK])


def test_draws_are_f_of_the_image_and_a_decoded_residual(cut):
    one = model(cut, "0")
    x = images(1, PATCH, PATCH)
    z = one.split.phi(x)
    drawn = one.prepare(z, (PATCH, PATCH))(0, 0, range(CHUNK))
    output = one.split.denoiser(x)
    estimate = one.regressor(z, (PATCH, PATCH))
    posterior = one.vae.encode(estimate, output)
    h = one.cinn.embed(torch.cat([posterior.mean, posterior.log_var], dim=1))
    v = invariances(0, 0, 0, range(CHUNK), 16)
    codes = one.cinn.inverse(v[:, None], h)[:, 0]
    expected = one.vae.decode(codes, output.expand(CHUNK, -1, -1, -1))
    torch.testing.assert_close(drawn, expected, atol=1e-2, rtol=1e-4)
    assert drawn.std(0).mean() > 1


def test_draws_of_const_are_given_another_images_output(cut):
    one = model(cut, "const")
    z = one.split.phi(images(1, PATCH, PATCH))
    drawn = one.prepare(z, (PATCH, PATCH))(0, 0, range(4 * CHUNK))
    near = (drawn[:, None] - one.others[None]).flatten(2).norm(dim=2).argmin(1)
    assert set(near.tolist()) == set(range(OTHERS))
    # They say nothing of the image under test.
    again = one.prepare(one.split.phi(images(1, PATCH, PATCH, seed=4)), (PATCH, PATCH))
    assert torch.equal(again(0, 0, range(CHUNK)), drawn[:CHUNK])


@pytest.mark.parametrize("layer", ["0", "input", "const"])
@pytest.mark.parametrize("size", [(PATCH, PATCH), (22, 50)])
def test_an_image_swapped_with_itself_is_its_reconstruction(cut, layer, size):
    one = model(cut, layer)
    x = images(1, *size)
    z = one.split.phi(x)
    torch.testing.assert_close(one.swap(x, z, z), one.reconstruct(x), atol=0.05, rtol=1e-3)


@pytest.mark.parametrize("layer", ["0", "const"])
def test_v_times_one_is_the_reconstruction_and_more_is_further_away(cut, layer):
    one = model(cut, layer)
    x = images(1, 22, 50)
    z = one.split.phi(x)
    kept = one.reconstruct(x)
    torch.testing.assert_close(one.scaled(x, z, 1.0), kept, atol=0.05, rtol=1e-3)
    changes = [(one.scaled(x, z, factor) - kept).norm() for factor in (1.2, 1.5)]
    assert 0 < changes[0] < changes[1]


def test_a_swap_takes_the_output_of_the_other(cut):
    one = model(cut, "0")
    x, other = images(2, PATCH, PATCH)[:, None]
    swapped = one.swap(x, one.split.phi(x), one.split.phi(other))
    f_x, f_other = (one.split.denoiser(image) for image in (x, other))
    assert (swapped - f_other).norm() < (swapped - f_x).norm()
    const = model(cut, "const")
    torch.testing.assert_close(
        const.swap(x, const.split.phi(x), const.split.phi(other)), const.reconstruct(x), atol=0.05, rtol=1e-3
    )


def test_reconstruction_of_several_images_is_that_of_each(cut):
    one = model(cut, "0")
    x = images(2, 22, 50)
    both = one.reconstruct(x)
    for index in range(2):
        torch.testing.assert_close(one.reconstruct(x[index, None])[0], both[index], atol=1e-3, rtol=1e-4)
    patch = images(1, PATCH, PATCH)
    expected = one.vae.reconstruct(patch, one.split.denoiser(patch))
    torch.testing.assert_close(one.reconstruct(patch), expected, atol=1e-2, rtol=1e-4)
