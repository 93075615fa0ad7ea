"""The channelised observer against closed forms: orthonormal channels, white noise, dense matrices, linear changes of channels."""

import pytest
import torch

from invkit.images.disc import disc
from invkit.measures.output.observer import Detected, Observed, best_possible, laguerre_gauss, observe
from invkit.noise.covariance import NoiseCovariance

PLACES, GROUPS, GROUP, CHANNELS = 16, 8, 3, 5
SIZE, CENTRE = (41, 41), (20, 20)


def covariance(level=20.0, **options):
    return NoiseCovariance(torch.full(SIZE, level, dtype=torch.float64), **options)


def drawn(root, signal, generator, change, own):
    """Return channels of scans with noise of covariance root root^T, and the same after a linear change and noise of its own."""
    shape = (PLACES, GROUPS, GROUP, CHANNELS)
    absent, extra = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    absent, extra = absent @ root.T, extra @ own.T
    present = absent[:, :, 0] + signal
    return Observed(absent, present), Observed(absent @ change.T + extra, present @ change.T + extra[:, :, 0])


def matrix(generator):
    return torch.randn(CHANNELS, CHANNELS, generator=generator, dtype=torch.float64)


def prime(signal, noise):
    return float((signal @ torch.linalg.solve(noise, signal)).sqrt())


def test_channels_are_orthonormal():
    channels = laguerre_gauss(SIZE, CENTRE, 9.0, 20.0).flatten(1)
    torch.testing.assert_close(
        channels @ channels.T, torch.eye(CHANNELS, dtype=torch.float64), atol=1e-3, rtol=0
    )


def test_channels_end_at_their_reach():
    channels = laguerre_gauss(SIZE, CENTRE, 9.0, 6.0)
    assert float(channels[:, 20, 27].abs().max()) == 0 and float(channels[:, 20, 26].abs().max()) > 0


def test_in_white_noise_it_is_the_signal_in_the_channels_over_the_deviation():
    channels = laguerre_gauss(SIZE, CENTRE, 9.0, 20.0)
    signal = 10 * disc(*SIZE, CENTRE, 4.0)[None]
    white = covariance(power=lambda frequency: 0 * frequency + 1.0)
    expected = float((channels * signal).sum((1, 2)).norm()) / 20
    assert best_possible(channels, signal, white) == pytest.approx(expected, rel=1e-3)


def test_the_best_possible_is_that_of_dense_matrices_and_below_the_ideal():
    channels, noise = laguerre_gauss(SIZE, CENTRE, 9.0, 20.0), covariance()
    signal = noise.blurred(10 * disc(*SIZE, CENTRE, 4.0)[None])
    unit = torch.eye(SIZE[0] * SIZE[1], dtype=torch.float64).view(-1, 1, *SIZE)
    dense = noise.apply(unit).flatten(1)
    rows, d = channels.flatten(1), signal.flatten()
    expected = prime(rows @ d, rows @ dense @ rows.T)
    found = best_possible(channels, signal, noise)
    assert found == pytest.approx(expected, rel=1e-9)
    ideal = prime(d, dense)
    assert 0.95 * ideal < found < ideal


@pytest.mark.parametrize("own", [0.0, 0.5])
def test_intervals_hold_what_is_known(own):
    """Of 40 intervals each, at least 35 hold the value: fewer have a probability of 3 % where 38 are expected."""
    generator = torch.Generator().manual_seed(1)
    root = torch.tril(matrix(generator)) + torch.eye(CHANNELS, dtype=torch.float64)
    change, extra = matrix(generator), own * matrix(generator)
    noise = root @ root.T
    signal = torch.randn(CHANNELS, generator=generator, dtype=torch.float64)
    signal *= 2 / prime(signal, noise)
    at_output = prime(change @ signal, change @ noise @ change.T + extra @ extra.T)
    held, values = [0, 0, 0], []
    for _ in range(40):
        found = observe(*drawn(root, signal, generator, change, extra))
        intervals = [Detected.interval(one) for one in (found.image, found.output, found.kept)]
        values.append([one.value for one in intervals])
        for index, (one, truth) in enumerate(zip(intervals, (2.0, at_output, at_output / 2), strict=True)):
            held[index] += one.low - 1e-9 <= truth <= one.high + 1e-9
    assert min(held) >= 35
    mean = torch.tensor(values).mean(0)
    assert float(mean[0]) == pytest.approx(2.0, rel=0.03)
    assert float(mean[2]) == pytest.approx(at_output / 2, rel=0.03)


def test_a_change_that_can_be_undone_loses_nothing():
    generator = torch.Generator().manual_seed(0)
    signal = torch.ones(CHANNELS, dtype=torch.float64)
    found = observe(
        *drawn(
            torch.eye(CHANNELS, dtype=torch.float64),
            signal,
            generator,
            matrix(generator),
            0 * matrix(generator),
        )
    )
    assert found.kept == pytest.approx(1.0, abs=1e-6)


def test_what_is_constant_detects_nothing():
    generator = torch.Generator().manual_seed(0)
    zero = torch.zeros(CHANNELS, CHANNELS, dtype=torch.float64)
    found = observe(
        *drawn(
            torch.eye(CHANNELS, dtype=torch.float64),
            torch.ones(CHANNELS, dtype=torch.float64),
            generator,
            zero,
            zero,
        )
    )
    assert Detected.interval(found.kept).value == 0


def test_few_places_leave_out_scans():
    generator = torch.Generator().manual_seed(0)
    shape = (2, 32, GROUP, CHANNELS)
    absent = torch.randn(shape, generator=generator, dtype=torch.float64)
    present = absent[:, :, 0] + 2 / CHANNELS**0.5
    found = observe(Observed(absent, present), Observed(absent, present))
    interval = Detected.interval(found.image)
    assert len(found.image) == 1 + 16
    assert interval.low < 2 < interval.high
    assert 0.05 < (interval.high - interval.low) / 2 < 0.6
