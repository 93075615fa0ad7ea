"""Real images stand inside, images with another noise, score or code outside; quantiles are ranks by direct count."""

import pytest
import torch

from invkit.certificates.plausibility import RealImages, Traits, noise_of, quantiles, texture_of
from invkit.data.dose.texture import noise_texture
from invkit.errors import InputError
from invkit.images.flat import Regions


def seeded(n):
    return torch.Generator().manual_seed(n)


def test_quantiles_count_what_is_less():
    real = torch.arange(199.0)
    found = quantiles(torch.tensor([-1.0, 99.0, 300.0, torch.nan]), real)
    assert found[:3].tolist() == pytest.approx([0.5 / 200, 0.5, 199.5 / 200])
    assert found[3].isnan()
    with pytest.raises(InputError, match="at least 100"):
        quantiles(real[:3], real[:50])


def test_quantiles_of_real_images_are_uniform():
    real = torch.randn(2000, generator=seeded(0))
    found = quantiles(torch.randn(2000, generator=seeded(1)), real)
    ordered = found.sort().values
    assert (ordered - torch.linspace(0, 1, 2000)).abs().max() < 1.63 * (2 / 2000) ** 0.5


def test_bands_are_those_of_the_noise():
    """White noise of s HU has log10 s^2 in every band."""
    white = 20 * torch.randn(64, 1, 64, 64, generator=seeded(0))
    assert texture_of(white).mean(0).tolist() == pytest.approx([2.602] * 10, abs=0.1)
    regions = Regions(32, (0, 0, 5), (0, 32, 16), (0, 32, 8))
    rows, means = noise_of(white + 50, regions)
    assert rows.shape == (3, 5)
    torch.testing.assert_close(means[0], rows[:2].mean(0))
    torch.testing.assert_close(means[5], rows[2])
    assert means[[1, 2, 3, 4]].isnan().all()
    # The trend is taken out of the lowest band.
    assert rows[:, 1:].mean(0).tolist() == pytest.approx([2.602] * 4, abs=0.15)


def traits(noise, critic=0.0, code=0.0, seed=0):
    n = len(noise)
    every = Regions(32, tuple(range(n)), (16,) * n, (16,) * n)
    random = torch.randn(2, n, generator=seeded(seed)).double()
    rows, means = noise_of(noise, every)
    return Traits(texture_of(noise), means, critic + random[0], code + random[1]), rows


@pytest.fixture(scope="module")
def real():
    level = 30 * torch.exp(0.2 * torch.randn(128, 1, 1, 1, generator=seeded(1)))
    return RealImages(*traits(level * noise_texture(128, 64, 64, generator=seeded(2))))


def fresh(n=60, level=30.0):
    spread = torch.exp(0.2 * torch.randn(n, 1, 1, 1, generator=seeded(3)))
    return level * spread * noise_texture(n, 64, 64, generator=seeded(4))


def test_other_real_images_are_inside(real):
    placed = real.place(traits(fresh(), seed=5)[0])
    # Six ways to be outside of 1 to 99 %, two of them one-sided.
    assert placed.inside.double().mean() > 0.85
    assert real.outside < 0.15


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda: traits(fresh(level=200.0))[0], "texture"),
        (lambda: traits(30 * torch.randn(60, 1, 64, 64, generator=seeded(6)))[0], "noise"),
        (lambda: traits(fresh(), critic=8.0)[0], "critic"),
        (lambda: traits(fresh(), code=-8.0)[0], "code_nll"),
    ],
)
def test_each_trait_finds_what_is_unlike(real, changed, why):
    placed = real.place(changed())
    assert not placed.inside.any()
    score = placed.score[why]
    assert ((score < 0.01) | (score > 0.99)).all()
    row = placed.rows()[0]
    assert row["inside"] is False
    assert row[why] == pytest.approx(float(score[0]), abs=1e-4)
    assert len(row["texture_bands"]) == 10
    assert len(row["noise_bands"]) == 5


def test_what_is_unknown_condemns_nobody(real):
    images, _ = traits(fresh(), seed=5)
    unknown = Traits(
        images.texture, images.noise * torch.nan, images.critic * torch.nan, images.code_nll * torch.nan
    )
    placed = real.place(unknown)
    assert placed.rows()[0]["noise"] is None
    assert placed.rows()[0]["critic"] is None
    assert placed.inside.double().mean() > 0.9
