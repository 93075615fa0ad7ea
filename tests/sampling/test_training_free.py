"""Training-free draws scatter around f(x) with the spectrum of what f removed, each with noise of its own."""

import pytest
import torch

from invkit.data.dose.texture import noise_texture
from invkit.images.spectrum import power_spectrum
from invkit.sampling.completion import complete
from invkit.sampling.training_free import training_free


@pytest.fixture(scope="module")
def scene():
    removed = 25 * noise_texture(1, 96, 96, generator=torch.Generator().manual_seed(3))
    clean = torch.linspace(-100, 200, 96).expand(1, 1, 96, 96)
    return clean + removed, clean


def test_draws_have_the_output_as_their_mean_and_the_power_of_what_it_removed(scene):
    x, clean = scene
    draws = training_free(x, clean, seed=0, image=0, indices=range(200))
    assert draws.shape == (200, 1, 96, 96)
    ours, removed = (torch.tensor(power_spectrum(part, bands=6).power) for part in (draws - clean, x - clean))
    torch.testing.assert_close(ours / removed, torch.ones(6), atol=0.25, rtol=0)
    standard_error = (x - clean).std() / 200**0.5
    assert float((draws.mean(0) - clean[0]).square().mean().sqrt() / standard_error) < 1.2


def test_a_draw_depends_on_seed_image_and_index_alone(scene):
    whole = training_free(*scene, seed=3, image=1, indices=range(5))
    torch.testing.assert_close(whole[3:], training_free(*scene, seed=3, image=1, indices=[3, 4]))
    for seed, image in ((4, 1), (3, 2)):
        assert not torch.allclose(whole, training_free(*scene, seed=seed, image=image, indices=range(5)))
    assert not torch.allclose(whole[0], whole[1])


def test_its_noise_is_not_that_of_completed_draws(scene):
    x, clean = scene
    free = training_free(x, clean, seed=0, image=0, indices=range(4)) - clean
    completed = complete(torch.zeros(4, 1, 96, 96), x - clean, seed=0, image=0, indices=range(4))
    cosines = torch.nn.functional.cosine_similarity(free.flatten(1), completed.flatten(1))
    assert cosines.abs().max() < 0.1


def test_nothing_is_added_where_the_denoiser_removes_nothing(scene):
    x, _ = scene
    torch.testing.assert_close(
        training_free(x, x, seed=0, image=0, indices=range(3)), x.expand(3, -1, -1, -1)
    )
