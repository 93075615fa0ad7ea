"""How much memory and disk an analysis will take, found on a small cut-out and stated before anything is sampled."""

__all__ = [
    "MemoryPlan",
    "available_memory",
    "memory_in_use",
    "parse_memory",
    "plan_memory",
    "state_memory",
]

import contextlib
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE as REFINED_AT_ONCE
from invkit.errors import InvkitError, ResourceError, SplitError, UsageError
from invkit.fiber.distance import activation_distance, parts_of
from invkit.fiber.refine import Limits, refine
from invkit.fiber.tangent import Tangent
from invkit.measures.comparison import CONTROL_SAMPLES
from invkit.measures.structures.plan import PLACES
from invkit.measures.window import MARGIN
from invkit.measures.window import SIDE as WINDOW
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import pixels_at_once
from invkit.sampling.draws import CHUNK
from invkit.sampling.footprint import peak_bytes
from invkit.sampling.stack import IN_MEMORY
from invkit.split.split import Split
from invkit.tolerance.layer import AROUND
from invkit.tolerance.unit import Unit, unit_of
from invkit.tolerance.windows import Windows
from invkit.training.processes import allocator

SIDE = 128  # pixels a side of a small image to draw
STEP = 32  # pixels, by which what lies around a window is made larger, at most
NOISE = 20.0  # HU
SMALL = 0.01  # of its variance: so small that draws of it are made in few steps
SCANS = 4  # at a time
PROBE = 64  # pixels a side of the cut-out; less, and borders count
FLOAT, DOUBLE = 4, 8
MAPS = 12  # mean and deviation of samples and of f of them, for a layer and its two controls
MOMENTS = 7  # of double precision: two running means and sums of squares, three temporaries
# What kernels work with and the C library does not give back: this at least, and of large images the copies that kernels make of
# what they are given. On a slice of 512 x 512 at a layer of 32 channels that was 4 times what tensors took.
WORKSPACE = 200_000_000
COPIES = 4.2
# Pixels from where on an activation, of 64 channels, is so large that what the C library was told to keep counts.
LARGE = 2**17
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class MemoryPlan:
    """What an analysis takes besides what is loaded already; bytes.

    Args:
        sampling: a chunk of samples, their decoding, and Phi and f of them, at the peak.
        refinement: draws of the posterior and witnesses, each with a linearisation of Phi, at the peak; 0 where there are none.
        structures: what the tolerance, structures and hidden noise take, likewise.
        held: images and maps kept until the end.
        disk: samples in files while they are worked with, and again in the run folder.
        kernels: what they work with, and what the C library does not give back.
    """

    sampling: int
    refinement: int
    structures: int
    held: int
    disk: int
    kernels: int = WORKSPACE

    @property
    def needed(self) -> int:
        """Memory besides what is in use already. It does not grow with the number of samples once they are in files."""
        return self.held + self.most + self.kernels

    @property
    def most(self) -> int:
        """Memory of the part of the work that takes most."""
        return max(self.sampling, self.refinement, self.structures)

    def to_json(self) -> dict[str, int]:
        """Return the parts as JSON values; they do not depend on the state of the machine."""
        return asdict(self)

    def statement(self, in_use: int, kept: int = 0) -> str:
        """Return what will be taken in one line for people.

        Args:
            in_use: of this process by now, bytes.
            kept: what the C library keeps of large tensors besides, bytes.
        """
        parts = {"refining": self.refinement, "structures": self.structures, "sampling": self.sampling}
        what = max(parts, key=lambda name: parts[name])
        return (
            f"memory: at most about {_size(in_use + self.needed + kept)} ({_size(in_use)} in use, {_size(self.most)} for {what}, "
            f"{_size(self.held)} for images kept, {_size(self.kernels + kept)} for what kernels hold), and {_size(self.disk)} of "
            "disk"
        )

    def check(self, in_use: int, *, limit: int | None, folder: Path | None = None) -> None:
        """Refuse what would not fit.

        Args:
            in_use: of this process by now, bytes.
            limit: most memory the process may take altogether; `None` for what the machine has.
            folder: where samples will lie.

        Raises:
            ResourceError: it takes more than there is; the message says what to lower.
        """
        total, most = in_use + self.needed, _most(in_use, limit)
        if total > most:
            whose = "are available" if limit is None else "are allowed"
            raise ResourceError(
                f"the analysis would need about {_size(total)} of memory, but only {_size(most)} {whose}. "
                f"{self._advice(most - in_use)}"
            )
        if folder is not None and folder.exists():
            free = shutil.disk_usage(folder).free
            if self.disk > free:
                raise ResourceError(
                    f"the samples would need {_size(self.disk)} of disk, but only {_size(free)} are free in {folder}. Draw fewer "
                    "(--samples), or choose another folder with --out"
                )

    def _advice(self, room: int) -> str:
        """Say what to lower, the mildest first."""
        rest = max(self.sampling, self.structures)
        if self.refinement > rest and self.needed - self.refinement + rest <= room:
            return (
                f"Refinement takes {_size(self.refinement)} of it: leave it out (--refine none), choose an earlier layer, or cut "
                "the image to a smaller one"
            )
        return (
            "It grows with the pixels of the image and the depth of the layer: cut the image to a smaller one, or choose "
            "an earlier layer"
        )


def plan_memory(
    splits: Sequence[Split],
    models: Sequence[SampleModel],
    x: Tensor,
    *,
    samples: int,
    refined: int,
) -> MemoryPlan:
    """Measure on a cut-out what the analysis of one image takes, and scale it to the image.

    Activations up to the layer, traced derivatives and decoded patches grow in proportion to the pixels, so the tensors made
    for a cut-out of 64 x 64 pixels tell those of the whole. A network that
    takes images of one size only is measured on the whole image.

    Args:
        splits: the layers.
        models: that draw, one of each kind and size; none where samples are not drawn by a model.
        x: the images, `(B, 1, H, W)`, HU; they are gone through one by one.
        samples: N.
        refined: how many of them are refined.
    """
    height, width = x.shape[-2:]
    pixels = height * width
    image = pixels * FLOAT
    together = max(1, pixels_at_once(x.device) // pixels) * pixels
    # Of large images a window is measured, with what lies around it.
    window = math.prod(min(side, WINDOW + 2 * MARGIN + STEP) for side in (height, width))
    refined_together = max(1, min(refined, REFINED_AT_ONCE // window)) * window
    # As many crops as there are places, or the whole window where no frame bounds what a layer sees.
    inserted = max(PLACES * min(window, AROUND**2), window)
    phi = refinement = structures = drawn = 0.0
    # What torch imports for its first trace holds tensors for as long as chance has it: that is not this layer's.
    one = torch.zeros(1, 1, 2, 2)
    refine(torch.clone, torch.clone, one, one + 1, 0.0, limits=Limits(1, 1))
    for split in splits:
        phi = max(phi, _per_pixel(partial(_measure, split), x))
        if split.layer != "const":
            linear = _per_pixel(partial(_draw, split), x)
            structures = max(structures, linear * inserted, _per_pixel(partial(_scan, split), x) * window)
            if refined and models:
                linear = max(linear, _per_pixel(partial(_refine, split), x))
            refinement = max(refinement, linear * refined_together) if refined else 0.0
    if models:
        drawn = max(_drawing(model, x) for model in models)
    stacks = [samples * image, *[min(samples, CONTROL_SAMPLES) * image] * 2]
    kept = sum(size for size in stacks if size <= IN_MEMORY)
    # Draws of the posterior and witnesses, with what those were made of.
    certified = 3 * refined * image
    return MemoryPlan(
        sampling=int(max(drawn, CHUNK * image + phi * together) + MOMENTS * pixels * DOUBLE),
        refinement=int(refinement),
        structures=int(structures),
        held=len(x) * (len(splits) * (MAPS * image + kept + certified)),
        disk=len(x) * len(splits) * (samples * image + sum(stacks) - kept),
        kernels=int(max(WORKSPACE, COPIES * phi * together)),
    )


def state_memory(
    splits: Sequence[Split],
    models: Sequence[SampleModel],
    x: Tensor,
    *,
    samples: int,
    refined: int,
    limit: int | None = None,
    say: Callable[[str], None],
) -> MemoryPlan:
    """Say what memory the analysis will take, and refuse what would not fit.

    Args:
        splits: the layers.
        models: that draw, one of each kind and size.
        x: the images, `(B, 1, H, W)`, HU.
        samples: N.
        refined: how many of them are refined.
        limit: most memory the process may take, bytes; `None` for what the machine has. Computed elsewhere than on the CPU, an
            analysis is held against a stated limit alone.
        say: called with one line.

    Raises:
        ResourceError: it takes more than there is.
    """
    plan = plan_memory(splits, models, x, samples=samples, refined=refined)
    in_use = memory_in_use()
    checked = limit is not None or x.device.type == "cpu"
    large = x.shape[-2] * x.shape[-1] >= LARGE
    kept = allocator.kept() if large else min(allocator.kept(), allocator.TRIM)
    if checked and in_use + plan.needed + kept > _most(in_use, limit):
        allocator.hand_back()  # which is slower, and takes less
        kept = 0
    say(plan.statement(in_use, kept))
    if checked:
        plan.check(in_use, limit=limit)
    return plan


def _most(in_use: int, limit: int | None) -> int:
    return in_use + available_memory() if limit is None else limit


def available_memory() -> int:
    """Return how many bytes this process can take besides those it has: of the machine, and of its control group."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        text = Path("/proc/meminfo").read_text()
        # What caches hold can be had, which sysconf does not count.
        if available := re.search(r"MemAvailable:\s+(\d+) kB", text):
            found = [int(available[1]) * 1024]
    for most, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        # A group without limit says "max", which is no number.
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(most).read_text()) - int(Path(used).read_text()))
    return max(0, min(found))


def memory_in_use() -> int:
    """Return how many bytes of this process are in memory; 0 where the system does not say.

    Where the C library is glibc it first hands back what it keeps of memory that was freed: a training in many threads leaves some.
    """
    if (trim := allocator.c_function("malloc_trim")) is not None:
        trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def parse_memory(text: str | float | None) -> int | None:
    """Return an amount such as `"1.5G"` or `"800M"` in bytes.

    Raises:
        UsageError: it is no positive amount.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(text).strip().upper())
    if found is None or float(found[1]) <= 0:
        raise UsageError(
            f"an amount of memory must be a number of bytes, or a size such as 1.5G or 800M, got {text!r}"
        )
    return int(float(found[1]) * UNITS[found[2]])


def _per_pixel(compute: Callable[[Tensor], object], x: Tensor) -> float:
    """Return the peak of a computation on a cut-out of the first image, bytes for each of its pixels."""
    part = x[:1, :, :PROBE, :PROBE].clone()  # or views of it would count as all of x
    try:
        return peak_bytes(lambda: compute(part)) / part[0].numel()
    except (RuntimeError, InvkitError):
        return peak_bytes(lambda: compute(x[:1])) / x[0].numel()


def _measure(split: Split, image: Tensor) -> None:
    with torch.no_grad():
        z = split.phi(image)
        activation_distance(split.phi_and_f(image)[0], z)


def _draw(split: Split, image: Tensor) -> None:
    """Draw one image of the posterior at a tolerance that is soon reached; the peak is that of any."""
    noise = NoiseCovariance(torch.full_like(image[0, 0], NOISE))
    moved = parts_of(split.phi(image + noise.draws(1, torch.Generator().manual_seed(0))))
    pairs = zip(moved, parts_of(split.phi(image)), strict=True)
    unit = Unit(tuple(_level(one - other) for one, other in pairs), (), 0.0)
    windows = Windows((None,) * len(unit.s), unit)
    with contextlib.suppress(SplitError):  # no gradient: nothing will be drawn
        prior = noise.scaled(SMALL)
        Posterior(split, image, image, windows, prior, 1.0, Tangent(split.phi_grad)).draw(1, seed=0)


def _level(change: Tensor) -> Tensor:
    """Return the root mean square of a change of an activation everywhere, 1 where there is none."""
    return torch.full_like(change, float(change.square().mean().sqrt()) or 1.0)


def _scan(split: Split, image: Tensor) -> None:
    """Measure the unit of a layer on one batch of scans; the peak is that of any number."""
    noise = NoiseCovariance(torch.full_like(image[0, 0], NOISE))
    numbers = torch.Generator().manual_seed(0)
    unit_of(split, image, lambda count: noise.draws(count, numbers), draws=SCANS)


def _refine(split: Split, image: Tensor) -> None:
    """Do one short step of refinement; its peak is that of any."""
    away = image + 10 * torch.cos(torch.arange(image.numel()).view(image.shape).to(image))
    with contextlib.suppress(SplitError):  # no gradient: nothing will be refined
        refine(split.phi, split.phi_grad, away, split.phi(image), 0.0, limits=Limits(1, 2))


def _drawing(model: SampleModel, x: Tensor) -> float:
    """Return the peak of drawing one chunk, bytes: that of one small image, plus what each further pixel adds."""
    one = x[:1, :, :SIDE, :SIDE]
    first = _chunk(model, one)
    if one.shape == x[:1].shape:
        return first
    two = x[:1, :, :SIDE, : 2 * SIDE] if x.shape[-1] > SIDE else x[:1, :, : 2 * SIDE, :SIDE]
    slope = (_chunk(model, two) - first) / (two[0].numel() - one[0].numel())
    return first + max(slope, 0.0) * (x[0].numel() - one[0].numel())


def _chunk(model: SampleModel, image: Tensor) -> float:
    size = (image.shape[-2], image.shape[-1])
    draws = model.prepare(model.split.phi(image), size)
    return peak_bytes(lambda: draws(0, 0, range(CHUNK)))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{math.ceil(count / 1e6)} MB"
