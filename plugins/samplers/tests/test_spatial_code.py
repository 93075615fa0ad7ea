"""The VAE with a spatial code against probabilistic PCA, which it starts as, and its file."""

from types import SimpleNamespace

import pytest
import torch
from invkit_samplers.spatial.code import SpatialConfig, SpatialVae
from invkit_samplers.spatial.fit import SpatialTask
from invkit_samplers.spatial.train import SpatialVaeRequest, SpatialVaeTraining, load_spatial
from pydantic import ValidationError
from small_workshop import small_workshop
from torch import nn
from torch.distributions import MultivariateNormal

from invkit import ArtifactError, ImageError
from invkit.data.patches import PatchBatch
from invkit.samplers import Shard, fit_pca, generator

TINY = SpatialConfig.tiny()


def built(config=TINY, spread=0.0, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        vae = SpatialVae(config).to(dtype).eval()
        for parameter in vae.parameters():
            nn.init.normal_(parameter, 0, spread) if spread else None
    return vae


def fields(n, side=32, seed=0, dtype=torch.float64):
    """Return smooth Gaussian fields plus noise, HU."""
    white = torch.randn(n, 1, side + 4, side + 4, generator=generator(seed, "fields"), dtype=dtype)
    noise = torch.randn(n, 1, side, side, generator=generator(seed, "noise"), dtype=dtype)
    return 400 * nn.functional.avg_pool2d(white, 5, stride=1) + 20 * noise - 200


def blocks(images, stem):
    folded = nn.functional.pixel_unshuffle(images, stem)
    return folded.movedim(1, -1).reshape(-1, stem * stem)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (20, 12)])
def test_codes_are_grids_for_images_of_any_size(size):
    vae = built(spread=0.1)
    x = fields(2, 96)[..., : size[0], : size[1]]
    posterior = vae.encode(x)
    assert posterior.mean.shape == posterior.log_var.shape == (2, 3, size[0] // 4, size[1] // 4)
    assert posterior.kl().shape == (2,)
    x_bar = vae.decode(posterior.sample(generator(0)))
    assert x_bar.shape == x.shape
    (x_bar.square().mean() + posterior.kl().mean()).backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in vae.parameters())


def test_a_size_that_is_no_multiple_is_padded_and_cut_again():
    vae = built(spread=0.1)
    x = fields(2, 32)[..., :29, :31]
    found = vae.reconstruct(x)
    assert found.shape == x.shape
    padded = torch.cat([x, x[..., -1:]], dim=-1)
    padded = torch.cat([padded, *[padded[..., -1:, :]] * 3], dim=-2)
    torch.testing.assert_close(found, vae.reconstruct(padded)[..., :29, :31])


def test_what_is_far_away_changes_nothing():
    """E and D are local, so a slice needs no tiles: each blocks reaches a few positions only."""
    vae = built(spread=0.1)
    x = fields(1, 128)
    other = x.clone()
    other[..., 96:] = fields(1, 128, seed=9)[..., 96:]
    found, changed = vae.reconstruct(x), vae.reconstruct(other)
    assert torch.equal(found[..., :48], changed[..., :48])
    assert not torch.equal(found[..., 80:96], changed[..., 80:96])


def test_the_start_has_the_likelihood_of_probabilistic_pca():
    """For a linear VAE at its best, E's posterior is the true one: the evidence bound is the likelihood itself."""
    vae = built()
    x = fields(400)
    vae.start(x)
    rows = blocks(vae.scale(x), TINY.stem)
    centred = rows - rows.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    s2 = values[: -TINY.channels].mean()
    kept, basis = values[-TINY.channels :], vectors[:, -TINY.channels :]
    covariance = basis @ torch.diag(kept - s2) @ basis.T + s2 * torch.eye(len(values), dtype=torch.float64)
    exact = MultivariateNormal(rows.mean(0), covariance).log_prob(rows).view(len(x), -1).sum(1)

    posterior = vae.encode(x)
    error = (vae.scale(x) - (vae.decode(posterior.mean) - vae.config.hu_mean) / vae.config.hu_scale).square()
    columns = vae.to_blocks.weight[:, :, 0, 0].square().sum(0)
    spread = (posterior.log_var.exp() * columns[:, None, None]).flatten(1).sum(1)
    pixels = x[0].numel()
    reconstruction = -0.5 * (error.flatten(1).sum(1) + spread) / s2 - 0.5 * pixels * (2 * torch.pi * s2).log()
    bound = reconstruction - posterior.kl()
    torch.testing.assert_close(bound, exact, rtol=1e-8, atol=1e-6)
    # Codes of the fitted patches have the prior's mean and variance, posterior variance included.
    codes = posterior.mean.movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(codes.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-8, rtol=0)
    total = codes.var(0, correction=0) + posterior.log_var[0, :, 0, 0].exp()
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64))


def test_the_start_keeps_what_pca_of_equal_length_keeps():
    vae = built()
    x, held_out = fields(400), fields(100, seed=5)
    vae.start(x)
    shape = (-1, 1, TINY.stem, TINY.stem)
    pca = fit_pca(blocks(x, TINY.stem).view(shape), TINY.channels, generator=generator(0))
    rival = pca.rmse(blocks(held_out, TINY.stem).view(shape))
    with torch.no_grad():
        found = float((vae.reconstruct(held_out) - held_out).square().mean().sqrt())
    # What shrinks the code costs s^4 / l_k of each eigenvalue, here very little.
    assert rival <= found <= 1.02 * rival


def test_images_without_structure_can_be_started_on():
    vae = built()
    vae.start(torch.full((8, 1, 32, 32), 40.0, dtype=torch.float64))
    x = torch.full((1, 1, 32, 32), 40.0, dtype=torch.float64)
    torch.testing.assert_close(vae.reconstruct(x), x)


def test_wrong_shapes_and_configs_are_refused():
    vae = built()
    with pytest.raises(ImageError, match=r"multiples of 4, got \(1, 1, 30, 32\)"):
        vae.encode(torch.zeros(1, 1, 30, 32))
    with pytest.raises(ImageError, match=r"\(B, 3, h, w\), got \(1, 2, 8, 8\)"):
        vae.decode(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValidationError, match="multiple of stem = 8"):
        SpatialConfig(patch=60)
    with pytest.raises(ValidationError, match="less than the 16 pixels"):
        SpatialConfig(stem=4, channels=16)


class Fields:
    """Patches of smooth fields; y = x + 1000, so that domains are told apart."""

    dose = 0.25
    seed = 0

    def __init__(self, start):
        self.start = start
        self.slices = SimpleNamespace(fingerprint=f"fields{start}", description="fields")

    def batch(self, step, n, shard=None):
        x = fields(n, seed=self.start + step, dtype=torch.float32)[shard or slice(None)]
        count = len(x)
        return PatchBatch(x, x + 1000, None, torch.zeros(count), torch.zeros(count, dtype=torch.long))


class Request(SpatialVaeRequest):
    """A request whose patches are fields."""

    def sampler(self, part):
        return Fields(0 if part == "train" else 10_000)


@pytest.fixture(scope="module")
def trained(place):
    config = TINY.model_copy(update={"steps": 150, "bf16": False})
    here = small_workshop(place)
    request = Request("high", here.slices, config)
    found = here.code(request, SpatialVaeTraining, load_spatial, what="spatial VAE")
    return found, here.store.path(request.kind, here.store.key(request.describe())), config


def test_training_gains_on_the_linear_code(trained):
    found, _, config = trained
    figures = found.meta["held_out"]
    assert figures["patches"] == config.held_out
    assert figures["rmse_hu"] < 0.98 * figures["pca"]["rmse_hu"]
    assert figures["numbers"] == config.d == 3 * 8 * 8
    assert figures["rate_nats"] == pytest.approx(figures["kl_per_dim"] * config.d, rel=0.05)
    x = Fields(10_000).batch(0, 64).y
    error = (found.vae.reconstruct(x) - x).square().mean().sqrt()
    assert float(error) == pytest.approx(figures["rmse_hu"], rel=1e-5)
    assert len(figures["lost"]) == len(figures["bands"]) == 10


def test_the_file_gives_the_same_and_a_damaged_one_is_refused(trained, tmp_path):
    found, path, _ = trained
    again = load_spatial(path, sha256=found.sha256)
    x = fields(2, dtype=torch.float32) + 1000
    assert torch.equal(again.vae.reconstruct(x), found.vae.reconstruct(x))
    assert not any(parameter.requires_grad for parameter in again.vae.parameters())
    damaged = tmp_path / path.name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(ArtifactError):
        load_spatial(damaged, sha256=found.sha256)


def test_shards_of_a_step_have_the_losses_of_the_whole():
    task = SpatialTask(built(dtype=torch.float32), Fields(0), Fields(1), domain="low", seed=2)
    whole, figures = task.loss("main", 4, Shard(0, 1))
    halves = [task.loss("main", 4, Shard(rank, 2))[1] for rank in range(2)]
    mean = sum(float(half["kl_per_dim"]) for half in halves) / 2
    assert float(figures["kl_per_dim"]) == pytest.approx(mean, rel=1e-6)
    squares = sum(float(half["rmse_hu"]) ** 2 for half in halves) / 2
    assert float(figures["rmse_hu"]) == pytest.approx(squares**0.5, rel=1e-4)
    assert whole.requires_grad
