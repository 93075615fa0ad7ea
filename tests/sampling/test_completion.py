"""Completed draws have the residual's spectrum on top of their own, and each its own noise."""

import torch

from invkit.data.dose.texture import noise_texture
from invkit.images.spectrum import power_spectrum
from invkit.sampling.completion import complete


def residual(size=96):
    return 30 * noise_texture(1, size, size, generator=torch.Generator().manual_seed(7))


def test_the_noise_has_the_power_of_the_residual_in_every_band():
    lost = residual()
    noise = complete(torch.zeros(200, 1, 96, 96), lost, seed=0, image=0, indices=range(200))
    ours, theirs = (torch.tensor(power_spectrum(part, bands=6).power) for part in (noise, lost))
    torch.testing.assert_close(ours / theirs, torch.ones(6), atol=0.25, rtol=0)
    assert abs(float(noise.std() / lost.std()) - 1) < 0.02
    assert abs(float(noise.mean())) < 1


def test_a_draw_keeps_what_it_is_and_its_noise_depends_on_its_index_alone():
    images = torch.randn(5, 1, 40, 56)
    lost = residual()[..., :40, :56]
    whole = complete(images, lost, seed=3, image=1, indices=range(5))
    part = complete(images[3:], lost, seed=3, image=1, indices=[3, 4])
    torch.testing.assert_close(whole[3:], part)
    added = whole - images
    assert not torch.allclose(added[0], added[1])
    assert not torch.allclose(
        added[:2], complete(images[:2], lost, seed=3, image=2, indices=range(2)) - images[:2]
    )
    torch.testing.assert_close(
        complete(images, torch.zeros_like(lost), seed=3, image=1, indices=range(5)), images
    )
