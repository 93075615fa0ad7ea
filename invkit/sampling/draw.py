"""Drawing N images that share an activation, streamed in chunks: mean, spread and fiber error as they come."""

__all__ = ["Draws", "Reference", "draw", "pixels_at_once"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invkit.fiber.distance import Activation, activation_distance
from invkit.fiber.tangent import Tangent
from invkit.sampling.base import ImageSampler
from invkit.sampling.draws import CHUNK, chunks
from invkit.sampling.stack import Stack
from invkit.split.split import Split
from invkit.statistics.moments import StreamingMoments
from invkit.training.processes.sharing import in_parts

# What Phi and f see at a time. In larger batches on a CPU activations leave its cache, and the C library maps their memory anew:
# two patches take half the time of 25.
ON_CPU, ELSEWHERE = 2 * 128 * 128, CHUNK * 128 * 128


@dataclass(frozen=True)
class Reference:
    """What samples are measured against: the layer, its activation of the image under test, and the layer's scale.

    Args:
        split: the layer whose fiber is asked for; need not be the layer that the samples were conditioned on.
        z: Phi(x) of the image under test, `(1, ...)`.
        scale: s_Phi, the root mean square difference of Phi between different patches.
        tangent: of the layer, where it was traced for other images.
    """

    split: Split
    z: Activation
    scale: float
    tangent: Tangent | None = None


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
    model: ImageSampler,
    x: Tensor,
    z: Activation,
    reference: Reference,
    *,
    samples: int,
    seed: int,
    image: int,
    perturb: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
    progress: Callable[[int], None] | None = None,
    folder: Path | None = None,
) -> Draws:
    """Draw samples for one image and measure each.

    What all samples share is computed once. Sample k of an image is the same whatever `samples` is, because chunks are always
    computed whole. Processes that share the work draw a chunk each, and all get all of them.

    Args:
        model: of the layer.
        x: the image under test, `(1, 1, H, W)`, HU; used for its size and for f(x).
        z: the activation the samples are conditioned on.
        reference: what the samples are measured against.
        samples: N.
        seed: of the analysis.
        image: index of the image.
        perturb: what is done to samples of these indices before Phi sees them: high-dose samples get fresh low-dose noise.
        progress: called with the number of samples done.
        folder: where samples lie that are too many for memory; by default where the system keeps temporary files.

    Raises:
        ResourceError: there is too little space for them.
    """
    size = (x.shape[-2], x.shape[-1])
    drawn = model.prepare(z, size)
    denoiser = reference.split.denoiser
    f_x = denoiser(x)
    moments, f_moments = StreamingMoments(), StreamingMoments()
    kept = Stack(samples, (1, *size), folder)
    pieces = list(chunks(samples))
    fiber_error, f_error = [], []

    def piece(number: int) -> _Piece:
        indices, wanted = pieces[number]
        images = drawn(seed, image, indices)[:wanted]
        of_images, of_f = StreamingMoments(), StreamingMoments()
        of_images.update(images)
        changes, distances = [], []
        for start, part in _parts(images):
            if perturb is None:
                of_part, f_part = reference.split.phi_and_f(part)
            else:
                at = range(indices.start + start, indices.start + start + len(part))
                of_part, f_part = reference.split.phi(perturb(part, at)), denoiser(part)
            of_f.update(f_part)
            changes.append(_rms(f_part - f_x))
            distances.append(activation_distance(of_part, reference.z))
        # What is measured stays on the device until all of the piece is done.
        return _Piece(images, of_images, of_f, torch.cat(distances).cpu(), torch.cat(changes).cpu())

    for found in in_parts(len(pieces), piece, device=x.device):
        kept.append(found.images)
        # Merged piece by piece, so that it does not matter who drew them.
        moments, f_moments = moments.merge(found.moments), f_moments.merge(found.f_moments)
        fiber_error.append((found.distance / reference.scale).float())
        f_error.append(found.f_error)
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


@dataclass(frozen=True)
class _Piece:
    """A chunk of draws and what was measured on it, without its unit s_Phi."""

    images: Tensor
    moments: StreamingMoments
    f_moments: StreamingMoments
    distance: Tensor
    f_error: Tensor


def pixels_at_once(device: torch.device) -> int:
    """Return how many pixels of samples Phi and f see at a time; at least one image."""
    return ON_CPU if device.type == "cpu" else ELSEWHERE


def _parts(images: Tensor) -> list[tuple[int, Tensor]]:
    count = max(1, pixels_at_once(images.device) // (images.shape[-2] * images.shape[-1]))
    return [(start, images[start : start + count]) for start in range(0, len(images), count)]


def _rms(difference: Tensor) -> Tensor:
    return difference.flatten(1).square().mean(1).sqrt()
