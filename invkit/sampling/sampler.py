"""Drawing N images that share an activation, streamed in chunks: mean, spread and fiber error as they come."""

__all__ = ["Draws", "Reference", "draw"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invkit.sampling.distance import Activation, activation_distance
from invkit.sampling.draws import CHUNK, chunks
from invkit.sampling.model import ImageSampler
from invkit.sampling.moments import StreamingMoments
from invkit.sampling.stack import Stack
from invkit.split.split import Split

# Images that D makes, and that Phi and f see, at a time: larger batches are no faster on a CPU and cost memory.
PIXELS_AT_ONCE = CHUNK * 128 * 128


@dataclass(frozen=True)
class Reference:
    """What samples are measured against: the layer, its activation of the image under test, and the layer's scale.

    Args:
        split: the layer whose fiber is asked for; need not be the layer that the samples were conditioned on.
        z: Phi(x) of the image under test, `(1, ...)`.
        scale: s_Phi, the root mean square difference of Phi between different patches.
    """

    split: Split
    z: Activation
    scale: float


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
    computed whole.

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
    fiber_error, f_error = (torch.empty(samples, dtype=torch.float32) for _ in range(2))
    for indices, wanted in chunks(samples):
        images = drawn(seed, image, indices)[:wanted]
        rows = slice(indices.start, indices.start + wanted)
        kept.append(images)
        moments.update(images)
        for start, part in _parts(images):
            f_part = denoiser(part)
            f_moments.update(f_part)
            at = range(rows.start + start, rows.start + start + len(part))
            f_error[at.start : at.stop] = _rms(f_part - f_x).cpu()
            seen = part if perturb is None else perturb(part, at)
            distance = activation_distance(reference.split.phi(seen), reference.z)
            fiber_error[at.start : at.stop] = distance.cpu() / reference.scale
        if progress is not None:
            progress(rows.stop)
    return Draws(
        stack=kept,
        mean=moments.mean.float(),
        std=moments.std.float(),
        f_mean=f_moments.mean.float(),
        f_std=f_moments.std.float(),
        fiber_error=fiber_error,
        f_error=f_error,
    )


def _parts(images: Tensor) -> list[tuple[int, Tensor]]:
    count = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1]))
    return [(start, images[start : start + count]) for start in range(0, len(images), count)]


def _rms(difference: Tensor) -> Tensor:
    return difference.flatten(1).square().mean(1).sqrt()
