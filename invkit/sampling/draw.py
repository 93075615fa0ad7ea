"""Drawing N images that share an activation, streamed in chunks: mean, spread and fiber error as they come."""

__all__ = ["Draws", "draw", "pixels_at_once"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invkit.fiber.distance import activation_distance
from invkit.sampling.base import ImageDraws
from invkit.sampling.draws import CHUNK, chunks
from invkit.sampling.layer import Target
from invkit.sampling.stack import Stack
from invkit.statistics.moments import StreamingMoments

# What Phi and f see at a time. In larger batches on a CPU activations leave its cache, and the C library maps their memory anew:
# two patches take half the time of 25.
ON_CPU, ELSEWHERE = 2 * 128 * 128, CHUNK * 128 * 128


@dataclass(frozen=True)
class Draws:
    """N draws for one image.

    Args:
        stack: x_bar, `(N, 1, H, W)`, HU, in memory or in a file.
        mean: `(1, H, W)`, HU.
        std: `(1, H, W)`, HU.
        f_mean: mean of f(x_bar), `(1, H, W)`, HU.
        f_std: standard deviation of f(x_bar), `(1, H, W)`, HU.
        fiber_error: root mean square of Phi(x_bar) - Phi(x) over s_Phi, `(N,)`.
        f_error: root mean square of f(x_bar) - f(x), `(N,)`, HU.
    """

    stack: Stack
    mean: Tensor
    std: Tensor
    f_mean: Tensor
    f_std: Tensor
    fiber_error: Tensor
    f_error: Tensor

    @property
    def samples(self) -> Tensor:
        """All of `stack`, `(N, 1, H, W)`, HU; mapped where they lie in a file."""
        return self.stack.tensor


def draw(
    drawn: ImageDraws,
    target: Target,
    *,
    samples: int,
    seed: int,
    image: int,
    perturb: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
) -> Draws:
    """Draw samples for one image and measure each.

    Sample k of an image is the same whatever `samples` is, because chunks are always computed whole.

    Args:
        drawn: what draws them, given the image's activation.
        target: what the samples are measured against; need not be what they were conditioned on.
        samples: N.
        seed: of the analysis.
        image: index of the image.
        perturb: what is done to samples of these indices before Phi sees them: high-dose samples get fresh low-dose noise.
        progress: called with the number of samples done.
        folder: where samples lie that are too many for memory; by default where the system keeps temporary files.

    Raises:
        ResourceError: there is too little space for them.
    """
    split, f = target.split, target.f
    moments, f_moments = StreamingMoments(), StreamingMoments()
    kept = Stack(samples, (1, *target.size), folder)
    fiber_error, f_error = [], []
    for indices, wanted in chunks(samples):
        images = drawn(seed, image, indices)[:wanted]
        of_images, of_f = StreamingMoments(), StreamingMoments()
        of_images.update(images)
        changes, distances = [], []
        for start, part in _parts(images):
            if perturb is None:
                of_part, f_part = split.phi_and_f(part)
            else:
                at = range(indices.start + start, indices.start + start + len(part))
                of_part, f_part = split.phi(perturb(part, at)), f(part)
            of_f.update(f_part)
            changes.append(_rms(f_part - target.f_x))
            distances.append(activation_distance(of_part, target.z))
        kept.append(images)
        # Merged chunk by chunk, so that the mean of many is as exact as that of few.
        moments, f_moments = moments.merge(of_images), f_moments.merge(of_f)
        # What is measured stays on the device until all of the chunk is done.
        fiber_error.append((torch.cat(distances).cpu() / target.scale).float())
        f_error.append(torch.cat(changes).cpu())
        if progress is not None:
            progress(sum(map(len, f_error)))
    return Draws(
        stack=kept,
        mean=moments.mean.float(),
        std=moments.std.float(),
        f_mean=f_moments.mean.float(),
        f_std=f_moments.std.float(),
        fiber_error=torch.cat(fiber_error),
        f_error=torch.cat(f_error),
    )


def pixels_at_once(device: torch.device) -> int:
    """Return how many pixels of samples Phi and f see at a time; at least one image."""
    return ON_CPU if device.type == "cpu" else ELSEWHERE


def _parts(images: Tensor) -> list[tuple[int, Tensor]]:
    count = max(1, pixels_at_once(images.device) // (images.shape[-2] * images.shape[-1]))
    return [(start, images[start : start + count]) for start in range(0, len(images), count)]


def _rms(difference: Tensor) -> Tensor:
    return difference.flatten(1).square().mean(1).sqrt()
