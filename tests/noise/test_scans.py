"""Noise that is known, from scans that hold it, and scans that tell of none."""

import numpy as np
import pytest
import torch

from invkit.data.images import Scan
from invkit.errors import ImageError, InputError
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.measured import MeasuredNoise
from invkit.noise.scans import read_noise_scans
from invkit.noise.simulated import simulated_deviation

SIDE = 128


def lowpass(frequency):
    """Power of noise as iterative reconstruction leaves it: most of it at low frequencies."""
    return 1 / (1 + (frequency / 0.12) ** 4)


def ramp(frequency):
    return frequency * np.exp(-((frequency / 0.2) ** 2))


def uneven():
    """Return a deviation that rises from 10 to 30 HU towards the middle, `(SIDE, SIDE)`."""
    line = torch.linspace(-1, 1, SIDE)
    return 10 + 20 * torch.exp(-2 * (line[:, None] ** 2 + line[None, :] ** 2))


def known(power, count, seed=0):
    """Return so many scans of an anatomy with that noise, `(count, 1, SIDE, SIDE)`, and the anatomy."""
    noise = NoiseCovariance(uneven(), power, floor=1e-6).draws(count, torch.Generator().manual_seed(seed))
    line = torch.linspace(-1, 1, SIDE)
    anatomy = torch.where(torch.hypot(line[:, None], line[None, :]) < 0.5, 200.0, 0.0)[None, None]
    return anatomy + noise, anatomy


@pytest.mark.parametrize("power", [lowpass, ramp], ids=["lowpass", "ramp"])
@pytest.mark.parametrize(("count", "bound"), [(2, 0.25), (12, 0.1)])
def test_spectrum_and_deviation_are_found_again(power, count, bound):
    scans, _ = known(power, count)
    (found,) = MeasuredNoise.of(scans.transpose(0, 1))
    nodes = np.array(found.frequency)
    inside = (nodes > 0.05) & (nodes < 0.5)

    def whole(values):
        """Scale a spectrum to unit variance."""
        grid = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
        return values(nodes) / values(grid).mean()

    ours, theirs = whole(found.power)[inside], whole(power)[inside]
    # Per ring, of 12 to 200 frequencies: within 10 % where there are many pairs.
    assert np.abs(ours - theirs).max() < bound * theirs.max()
    strong = theirs > 0.1 * theirs.max()
    assert np.abs(ours / theirs - 1)[strong].mean() < bound
    ratio = found.deviation / uneven()
    assert ratio.mean() == pytest.approx(1, abs=bound / 3)
    assert ratio.std() < 0.08
    assert found.level == pytest.approx(float(uneven().median()), rel=bound / 2)


def test_repeat_scans_of_the_image_give_its_map():
    scans, anatomy = known(ramp, 8)
    x = anatomy + NoiseCovariance(uneven(), ramp).draws(1, torch.Generator().manual_seed(9))
    noise = read_noise_scans(scans.numpy()).covariance(x, None)
    assert noise.source == "scans"
    ratio = noise.deviation / uneven()
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert ((ratio - 1).abs() < 0.15).double().mean() > 0.95


def test_a_phantom_gives_level_and_spectrum():
    """Uniform water, of another size than the image: the map of the image is simulated, its median that of the phantom."""
    white = NoiseCovariance(torch.full((96, 96), 17.0), lowpass)
    phantom = read_noise_scans(white.draws(10, torch.Generator().manual_seed(0)).numpy())
    line = torch.linspace(-1, 1, SIDE)
    x = torch.where(torch.hypot(line[:, None], line[None, :]) < 0.8, 30.0, -1000.0)[None, None]
    noise = phantom.covariance(x, 0.7)
    assert noise.deviation[x[0, 0] > 0].median() == pytest.approx(17, rel=0.05)
    assert torch.equal(noise.deviation, simulated_deviation(x, 0.7, level=phantom.measured[0].level))
    assert noise.power(np.array(0.3)) / noise.power(np.array(0.1)) == pytest.approx(
        float(lowpass(0.3) / lowpass(0.1)), rel=0.3
    )
    tiny = phantom.covariance(x[..., :24, :24], 0.7)
    assert torch.allclose(tiny.deviation, torch.tensor(phantom.measured[0].level))


def test_clipped_air_has_some_noise():
    scans, _ = known(lowpass, 6)
    scans[..., :40, :] = -1024.0
    (found,) = MeasuredNoise.of(scans.transpose(0, 1))
    assert found.deviation[:20].max() < 0.2 * found.level
    assert found.deviation.min() >= 0.1 * found.level * (1 - 1e-6)
    middle = (slice(60, 120), slice(10, 118))
    assert (found.deviation[middle] / uneven()[middle]).mean() == pytest.approx(1, abs=0.05)


def test_scans_are_read_from_arrays_in_a_folder_or_one_stack(tmp_path):
    scans, _ = known(ramp, 4)
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    for number, part in enumerate(scans.view(2, 2, 1, SIDE, SIDE)):
        np.save(pairs / f"{number}.npy", part.numpy())
    stack = tmp_path / "stack.npy"
    np.save(stack, scans.numpy())
    two, four = read_noise_scans(pairs), read_noise_scans(stack)
    assert tuple(two.images.shape) == (2, 2, SIDE, SIDE)
    assert tuple(four.images.shape) == (1, 4, SIDE, SIDE)
    assert torch.equal(two.images[1, 0], scans[1, 0])  # the second slice of the first scan
    assert two.fingerprint != four.fingerprint


def test_what_tells_of_no_noise_is_refused(tmp_path):
    scans, anatomy = known(ramp, 2)
    with pytest.raises(InputError, match="holds one only"):
        read_noise_scans(scans[:1].numpy())
    with pytest.raises(InputError, match="copies of one scan"):
        read_noise_scans(anatomy.expand(3, -1, -1, -1).numpy())
    with pytest.raises(InputError, match="at least 32 x 32"):
        read_noise_scans(scans[..., :16].numpy())
    for number, size in enumerate((64, 96)):
        np.save(tmp_path / f"{number}.npy", scans[0, 0, :size, :size].numpy())
    with pytest.raises(InputError, match="differ in size: 64 x 64"):
        read_noise_scans(tmp_path)
    with pytest.raises(ImageError):
        read_noise_scans(tmp_path / "nothing")
    coarse = read_noise_scans(Scan(scans, 0.9))
    with pytest.raises(InputError, match=r"pixels of 0.9 mm, the image of 0.7 mm"):
        coarse.covariance(anatomy, 0.7)
    assert coarse.covariance(anatomy, 0.9).source == coarse.covariance(anatomy, None).source == "scans"
