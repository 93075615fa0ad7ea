"""What an analysis takes for the noise of its images."""

import pytest
import torch
from scaled_network import Scaled

from invkit.analysis.specs import ImageSpec, SamplingSpec
from invkit.analysis.study import Study
from invkit.analysis.subject import Subject, choose_subject
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.texture import noise_texture
from invkit.data.images import Scan
from invkit.errors import InputError
from invkit.fiber.tangent import Tangent
from invkit.images.tissue import TISSUES
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.simulated import noise_of
from invkit.split.split import Split


def study_of(subject: Subject):
    """Return a study of a network of one layer, with what belongs to tolerances alone, and that layer."""
    split = Split(Scaled(), "inner")
    unused = dict.fromkeys(("workshop", "references", "randomised", "judge", "controls", "low"))
    study = Study(
        denoiser=split.denoiser,
        subject=subject,
        f_x=split.denoiser(subject.x),
        sampling=SamplingSpec(),
        pixel_scale=1.0,
        reconstruction=None,
        **unused,
    )
    return study, split


def toleranced(subject: Subject):
    """Return the layer at a subject's images, with all that belongs to its tolerance."""
    study, split = study_of(subject)
    return study._toleranced(split, Tangent(split.phi_grad))


def oval(size):
    """Return an image of water in air with noise of 20 HU, `(1, 1, size, size)`, HU."""
    line = torch.linspace(-1, 1, size)
    body = torch.hypot(line[:, None], line[None, :] * 0.8) < 0.7
    noise = noise_texture(1, size, size, generator=torch.Generator().manual_seed(0))
    return torch.where(body, 0.0, -1000.0) + 20 * noise


def test_the_noise_is_simulated_on_the_whole_image_and_cut_with_the_window():
    x = oval(320)
    (layer,) = toleranced(choose_subject(x.numpy(), seed=0, spacing=0.7))
    place = tuple(
        slice(first, first + side) for first, side in zip(layer.origin, layer.x.shape[-2:], strict=True)
    )
    whole = noise_of(x, 0.7)
    assert layer.covariance.source == "simulation"
    assert layer.x.shape != x.shape
    assert torch.equal(layer.x, x[(..., *place)])
    assert torch.equal(layer.covariance.deviation, whole.deviation[place])


def test_where_the_dose_was_reduced_here_the_level_is_that_of_the_image():
    subject = choose_subject(None, seed=0)
    (layer,) = toleranced(subject)
    tissue = (subject.x[0, 0] > -200) & (subject.x[0, 0] < 250)
    assert layer.covariance.deviation[tissue].median() == pytest.approx(estimate_noise(subject.x), rel=0.03)


SMOOTH = NoiseCovariance(torch.full((160, 160), 8.0), lambda f: 1 / (1 + (f / 0.1) ** 4))


def scans(spacing=None):
    """Return repeat scans of the same oval with smooth noise of 8 HU."""
    return Scan(oval(160).round(decimals=-2) + SMOOTH.draws(6, torch.Generator().manual_seed(0)), spacing)


def roughness(noise):
    """Return the variance of differences of neighbours over that of pixels."""
    drawn = noise.draws(8, torch.Generator().manual_seed(1))
    return float(drawn.diff(dim=-1).square().mean() / drawn.square().mean())


def test_the_noise_is_that_of_the_users_scans():
    subject = ImageSpec(oval(160).numpy(), spacing=0.7, noise_scans=scans()).subject(0, "cpu")
    (layer,) = toleranced(subject)
    noise = layer.covariance
    assert noise.source == "scans"
    assert noise.deviation.square().mean().sqrt() == pytest.approx(8, rel=0.05)
    assert roughness(noise) == pytest.approx(roughness(SMOOTH), rel=0.1)
    (simulated,) = toleranced(choose_subject(oval(160).numpy(), seed=0, spacing=0.7))
    assert roughness(noise) < 0.7 * roughness(simulated.covariance)


def test_scans_of_other_pixels_are_refused_with_the_image():
    with pytest.raises(InputError, match=r"pixels of 0.9 mm, the image of 0.7 mm"):
        ImageSpec(oval(160).numpy(), spacing=0.7, noise_scans=scans(0.9)).subject(0, "cpu")


def test_lung_and_bone_of_a_large_image_have_windows_of_their_own():
    soft, lung, bone = TISSUES
    x = oval(288)
    x[..., 60:120, 60:110] = -800 + 20 * torch.randn(60, 50, generator=torch.Generator().manual_seed(1))
    study, split = study_of(choose_subject(x.numpy(), seed=0, spacing=0.7))
    (layer,) = study._toleranced(split, Tangent(split.phi_grad))
    assert study._elsewhere(layer, bone) is None and study._elsewhere(layer, soft) is None
    with torch.no_grad():  # as structures are measured
        layers, identities = study._elsewhere(layer, lung)
    for (one,) in (layers, identities):
        rows, columns = one.interior
        assert rows.start <= 60 and columns.start <= 60 and rows.stop >= 120 and columns.stop >= 110
    assert study._elsewhere(layer, lung)[1] is identities
    small, split = study_of(choose_subject(x[..., 40:160, 40:160].numpy(), seed=0, spacing=0.7))
    assert small._elsewhere(layer, lung) is None


def test_a_structure_beyond_the_window_is_measured_in_a_window_of_its_own_at_the_same_tolerance():
    x = oval(320).numpy()
    found = []
    for box in ("150,150,20,20", "40,150,20,20"):
        study, split = study_of(ImageSpec(x, spacing=0.7, structure=box).subject(0, "cpu"))
        layers = study._toleranced(split, Tangent(split.phi_grad))
        marking = study._marked(layers)
        here = marking.box.moved(-marking.layer.origin[0], -marking.layer.origin[1])
        assert here.within(marking.layer.frame.interior)
        assert marking.layer.tolerance == layers[0].tolerance
        assert torch.equal(marking.layer.x[(..., *here.place)], study.subject.x[(..., *marking.box.place)])
        assert torch.equal(marking.identity.x, marking.layer.x)
        found.append(marking.layer is layers[0])
    assert found == [True, False]
