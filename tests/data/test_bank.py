"""The bank holds what the sampler draws, and finds by block means what looks most like an image."""

import pytest
import torch

from invkit.data.bank import PIXELS, PatchBank
from invkit.data.slices import load_slices


@pytest.fixture(scope="module")
def slices():
    return load_slices(["phantoms:12"], seed=0)


def test_an_image_of_the_bank_is_found_first():
    images = torch.randn(30, 1, 20, 12, generator=torch.Generator().manual_seed(0)) * 100
    bank = PatchBank.of(images)
    assert len(bank) == 30
    assert bank.like(images[17:18], 5)[0] == 17
    assert torch.equal(bank.patches([17, 3]), images[[17, 3]])


def test_order_is_that_of_means_over_blocks():
    images = torch.zeros(3, 1, 8, 8)
    images[0, 0, 0, 0] = 160  # 10 HU in one block's mean
    images[1] += 6
    images[2, 0, ::2] += 50  # no block's mean is other than 25
    assert PatchBank.of(images).like(torch.zeros(1, 1, 8, 8), 3) == [0, 1, 2]
    assert PatchBank.of(images).like(torch.full((1, 1, 8, 8), 25.0), 3) == [2, 1, 0]
    assert len(PatchBank.of(images).like(torch.zeros(1, 1, 8, 8), 9)) == 3


def test_patches_are_drawn_again_bit_for_bit(slices, monkeypatch):
    monkeypatch.setattr("invkit.data.bank.PATCHES", 60)
    bank = PatchBank.draw(slices, (24, 32), dose=0.25, seed=3)
    assert len(bank) == 60
    everything = bank.patches(range(60))
    assert everything.shape == (60, 1, 24, 32)
    assert torch.equal(bank.means, PatchBank.of(everything).means)
    assert len(torch.unique(everything.flatten(1), dim=0)) == 60
    assert torch.equal(bank.patches([41]), everything[41:42])


@pytest.mark.parametrize(("side", "count"), [(16, 2000), (128, 2000), (200, PIXELS // 200**2), (512, 125)])
def test_larger_images_have_fewer_patches(side, count, slices, monkeypatch):
    class Sampler:
        def __init__(self, slices, side, **_):
            self.side = side

        def batch(self, step, n, shard=None):
            return type("Batch", (), {"x": torch.zeros(n, 1, 4, 4)})

    monkeypatch.setattr("invkit.data.bank.PatchSampler", Sampler)
    assert len(PatchBank.draw(slices, (side, side), dose=0.25, seed=0)) == count


def test_noise_is_never_simulated_on_rays(slices, monkeypatch):
    monkeypatch.setattr("invkit.data.bank.PATCHES", 5)
    physical = PatchBank.draw(slices.simulated(), (16, 16), dose=0.25, seed=0)
    plain = PatchBank.draw(slices, (16, 16), dose=0.25, seed=0)
    assert torch.equal(physical.means, plain.means)


def test_kept_means_are_those_drawn(slices, tmp_path, monkeypatch):
    monkeypatch.setattr("invkit.data.bank.PATCHES", 30)

    def means(keep, seed=0, size=(16, 16)):
        return PatchBank.draw(slices, size, dose=0.25, seed=seed, keep=keep).means

    plain = means(None)
    assert torch.equal(means(tmp_path), plain)
    assert not torch.equal(means(tmp_path, seed=1), plain)
    assert means(tmp_path, size=(16, 12)).shape != plain.shape
    monkeypatch.setattr("invkit.data.bank._means", None)  # nothing is drawn
    assert torch.equal(means(tmp_path), plain)
