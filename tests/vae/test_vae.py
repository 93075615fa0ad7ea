import pytest
import torch
from blobs import vae_and_critic
from pydantic import ValidationError

from invkit.errors import ConfigError, ImageError
from invkit.parts.preset_file import vae_preset
from invkit.vae.vae import VAE, VaeConfig


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_default_keeps_to_the_budget():
    vae, critic = vae_and_critic(VaeConfig(), 0)
    assert count(vae) <= 3.0e6
    assert count(critic) <= 0.7e6
    assert (vae.patch, vae.d) == (128, 256)


@pytest.mark.parametrize(
    "config",
    [
        vae_preset("tiny"),
        vae_preset("tiny", patch=48, d=5, critic_stem=2),
        vae_preset("tiny", encoder_blocks=(0, 0), decoder_blocks=(0, 2), neck=1, width=7, inner=3),
        vae_preset("tiny", stem=1, patch=16, critic_stem=1),
        vae_preset("tiny", pool=1, d=20),
    ],
)
def test_shapes(config):
    vae, critic = vae_and_critic(config, 0)
    x = torch.randn(3, 1, config.patch, config.patch) * 300
    posterior = vae.encode(x)
    assert posterior.mean.shape == posterior.log_var.shape == (3, config.d)
    assert posterior.kl().shape == (3,)
    x_bar = vae.decode(posterior.sample(torch.Generator().manual_seed(0)))
    assert x_bar.shape == x.shape
    assert torch.equal(vae(x), vae.reconstruct(x))
    assert critic(vae.scale(x)).shape == (3,)
    (x_bar.square().mean() + posterior.kl().mean() + critic(vae.scale(x_bar)).sum()).backward()
    for name, parameter in [*vae.named_parameters(), *critic.named_parameters()]:
        assert parameter.grad is not None, name


def test_hu_in_and_out():
    vae = VAE(vae_preset("tiny"))
    x = torch.tensor([-5000.0, -1024.0, 0.0, 2000.0, 9000.0]).reshape(1, 1, 1, 5)
    expected = torch.tensor([-1024.0, -1024.0, 0.0, 2000.0, 2000.0]).reshape(1, 1, 1, 5)
    torch.testing.assert_close(vae.unscale(vae.scale(x)), expected, atol=1e-3, rtol=0)


def test_posterior_sample_has_its_mean_and_variance():
    vae = VAE(vae_preset("tiny"))
    posterior = vae.encode(torch.randn(1, 1, 32, 32).expand(4000, 1, 32, 32) * 100)
    sample = posterior.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample.mean(0), posterior.mean[0], atol=0.03, rtol=0)
    torch.testing.assert_close(sample.var(0).log(), posterior.log_var[0], atol=0.2, rtol=0)


def test_parameters_depend_on_the_seed_alone():
    state = torch.random.get_rng_state()
    (first, _), (second, _), (other, _) = (vae_and_critic(vae_preset("tiny"), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [vae.encoder.head.weight for vae in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_wrong_shapes_are_refused_with_both_sizes():
    vae = VAE(vae_preset("tiny"))
    with pytest.raises(ImageError, match=r"1, 32, 32.*got \(1, 1, 64, 64\)"):
        vae.encode(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ImageError, match=r"\(B, 16\), got \(1, 3\)"):
        vae.decode(torch.zeros(1, 3))


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="default, paper, ldct-benchmark, tiny"):
        vae_preset("huge")
    with pytest.raises(ValidationError, match="multiple of 2"):
        VaeConfig(patch=120, stem=8)
    with pytest.raises(ValidationError, match="4 \\* critic_stem"):
        VaeConfig(patch=48, stem=8, critic_stem=8)
    with pytest.raises(ValidationError, match="at least d = 256 blocks"):
        VaeConfig(pool=16)
    with pytest.raises(ValidationError, match="more than d"):
        VaeConfig(start_patches=100)
    with pytest.raises(ValidationError):
        VaeConfig(widht=3)


def test_paper_preset_keeps_the_published_sizes():
    config = vae_preset("paper")
    assert (config.patch, config.d, config.batch, config.lr, config.critic_lr) == (128, 256, 64, 1e-5, 4e-5)
    assert config.critic_begins == 0


def test_start_is_the_best_linear_vae():
    """Patches that are block-wise constant and Gaussian: error, prior and posterior follow in closed form."""
    config = vae_preset("tiny", pool=4, d=16, hu_mean=0.0, hu_scale=100.0)
    vae, _ = vae_and_critic(config, 0)
    rng = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 20, generator=rng)).Q.T
    spread = torch.linspace(4, 1, 20)
    means = (torch.randn(3000, 20, generator=rng) * spread) @ basis
    patches = 100 * means.reshape(-1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    with torch.no_grad():
        vae.encoder.head.weight.zero_()
        vae.decoder.head.weight.zero_()
        vae.decoder.head.bias.zero_()
        vae.encoder.head.bias[:16] = 0
    vae.start(patches)
    with torch.no_grad():
        posterior = vae.encode(patches)
        torch.testing.assert_close(posterior.mean.std(0), torch.ones(16), atol=1e-3, rtol=0)
        back = vae.decoder.blocks(vae.decoder.linear(posterior.mean)).flatten(1)
        left = (back - means).square().sum(1).mean()
        rest = (vae.scale(patches[:512]) - vae.decoder.smooth(posterior.mean[:512])).square().mean()
    expected = torch.linalg.svdvals(means - means.mean(0))[16:].square().sum() / 3000
    assert left.item() == pytest.approx(expected.item(), rel=1e-3)
    variances = torch.linalg.svdvals(means - means.mean(0))[:16].square() / 3000
    torch.testing.assert_close(
        posterior.log_var[0], (rest / (16 * variances)).log().clamp(-8, -0.1), atol=1e-3, rtol=0
    )
