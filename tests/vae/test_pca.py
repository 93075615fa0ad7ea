import numpy as np
import pytest
import torch

from invkit.errors import DataError
from invkit.vae.pca import fit_pca


def seeded(n=0):
    return torch.Generator().manual_seed(n)


def test_against_numpy_svd():
    patches = torch.randn(40, 1, 6, 5, generator=seeded(), dtype=torch.float64) * torch.arange(1, 6) + 2
    pca = fit_pca(patches, 7, generator=seeded(1))
    flat = patches.flatten(1).numpy()
    centred = flat - flat.mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pca.variances, singular[:7] ** 2 / 40, rtol=1e-10)
    projected = centred @ right[:7].T @ right[:7] + flat.mean(0)
    np.testing.assert_allclose(pca.reconstruct(patches).flatten(1), projected, atol=1e-10)
    assert pca.rmse(patches) == pytest.approx(np.sqrt((singular[7:] ** 2).sum() / flat.size))


def test_randomised_finds_the_subspace_of_a_low_rank_gaussian():
    """x = A s + noise: 8 components leave the noise, sigma^2 (1 - 8 / D) per pixel."""
    size, rank, sigma = 40 * 40, 8, 0.5
    mix = torch.randn(rank, size, generator=seeded())
    flat = torch.randn(1500, rank, generator=seeded(1)) @ mix
    noisy = flat + sigma * torch.randn(1500, size, generator=seeded(2))
    pca = fit_pca(noisy.reshape(-1, 1, 40, 40), rank, generator=seeded(3))
    fresh = torch.randn(200, rank, generator=seeded(4)) @ mix + sigma * torch.randn(
        200, size, generator=seeded(5)
    )
    assert pca.rmse(fresh.reshape(-1, 1, 40, 40)) == pytest.approx(sigma * (1 - rank / size) ** 0.5, rel=0.01)
    overlap = torch.linalg.svdvals(pca.components @ torch.linalg.qr(mix.T).Q)
    assert overlap.min() > 0.999
    torch.testing.assert_close(pca.components @ pca.components.T, torch.eye(rank), atol=1e-5, rtol=0)


def test_same_generator_same_result():
    patches = torch.randn(1100, 1, 33, 33, generator=seeded())
    first, second = (fit_pca(patches, 4, generator=seeded(1), iterations=1) for _ in range(2))
    assert torch.equal(first.components, second.components)


def test_refuses_too_few_patches():
    with pytest.raises(DataError, match="more patches"):
        fit_pca(torch.zeros(4, 1, 8, 8), 4, generator=seeded())
