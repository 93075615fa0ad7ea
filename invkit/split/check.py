"""Whether a network can be split at a layer: runs once, one tensor per image, exact; and whether it is a cut or a branch."""

__all__ = ["SplitReport", "check_split"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.errors import DenoiserError, ImageError, SplitError
from invkit.split.cut import Cut, never_called
from invkit.split.grid import Grid
from invkit.statistics.intervals import number
from invkit.training.precision import in_float64

APART = 4  # times the difference of two calls by which Psi(Phi(x)) may differ from f(x)


@dataclass(frozen=True)
class SplitReport:
    """Properties of a usable split.

    Attributes:
        layer: as requested.
        modules: the places in the network.
        grids: shape of each tensor of z and how it lies on the image.
        numbers: how many numbers z holds for one image.
        exact: Psi(Phi(x), x) equals f(x) bit for bit; False for `const` only, which has no Psi.
        bypass: the layer is a branch: something goes round it, and Psi(z, carrier) still depends on the carrier. False for a cut.
        leak: share of the change of f(x) that another carrier causes although z is fixed: 0 for a cut,
            about 1 and more where z has little effect.
    """

    layer: str
    modules: tuple[str, ...]
    grids: tuple[Grid, ...]
    numbers: int
    exact: bool
    bypass: bool
    leak: float


def check_split(split: Cut, x_hu: Tensor, *, f_x: Tensor | None = None) -> SplitReport:
    """Check a split on images.

    Args:
        split: the layer.
        x_hu: finite images, shape `(B, 1, H, W)`, HU.
        f_x: f of them, where `check_contract` has found it to be the same twice.

    Raises:
        ImageError: `x_hu` is not finite.
        DenoiserError: the network breaks its contract.
        SplitError: the layer runs not exactly once, gives no tensor with one row per image, does not depend
            on the image, or is not exact.
    """
    if not bool(torch.isfinite(x_hu).all()):
        raise ImageError("a split must be checked on finite images; this one contains NaN or Inf")
    owner = f"layer {split.layer!r} of {split.denoiser.name}"
    with torch.no_grad():
        if split.layer == "const":
            return _report(split, x_hu, split.phi(x_hu), exact=False, leak=0.0)
        expected = _repeated(split, x_hu) if f_x is None else f_x
        if split.layers:
            _require_one_run(split, x_hu, owner)
            _require_rows(split, x_hu, owner)
        z = split.phi(x_hu)
        found = split.psi(z, x_hu)
        if not torch.equal(found, expected):
            worst = float((found - expected).abs().max())
            if not worst <= APART * split.denoiser.repeatability:
                raise SplitError(
                    f"{owner} is not exact: Psi(Phi(x)) differs from f(x) by up to {number(worst)} HU. The module's "
                    "output shares memory with another tensor that is used later, or a later operation depends on "
                    "the identity of the tensor. Choose the layer before or after it"
                )
            expected = found  # f differs as much from call to call
        leak = max(_leak(split, z, expected, other) for other in _others(x_hu))
    return _report(split, x_hu, z, exact=True, leak=leak)


def _report(
    split: Cut, x_hu: Tensor, z: Tensor | tuple[Tensor, ...], *, exact: bool, leak: float
) -> SplitReport:
    return SplitReport(
        layer=split.layer,
        modules=tuple(layer.name for layer in split.layers),
        grids=split.grid(x_hu),
        numbers=sum(tensor[0].numel() for tensor in _tensors(z)),
        exact=exact,
        bypass=leak > 0,
        leak=leak,
    )


def _repeated(split: Cut, x_hu: Tensor) -> Tensor:
    """Return f(x), after it came out finite and the same twice."""
    denoiser = split.denoiser
    expected = denoiser(x_hu)
    if not bool(torch.isfinite(expected).all()):
        raise DenoiserError(f"denoiser {denoiser.name} returns pixels that are not finite for a finite image")
    if not torch.equal(expected, denoiser(x_hu)):
        raise DenoiserError(
            f"denoiser {denoiser.name} is not deterministic: two calls on one image differ, so no layer of "
            "it can be checked"
        )
    return expected


def _require_one_run(split: Cut, x_hu: Tensor, owner: str) -> None:
    record = split.record(x_hu)
    for layer, runs in zip(split.layers, record.runs, strict=True):
        if layer.call is not None:
            if runs < layer.call:
                raise never_called(layer, record, split.denoiser.name)
        elif runs == 0:
            raise SplitError(
                f"module {layer.module!r}, {owner}, never ran. Its parent may skip it, call its forward "
                "or use its weights directly; choose a module around it or one that runs"
            )
        elif runs > 1:
            raise SplitError(
                f"module {layer.module!r}, {owner}, runs {runs} times in one pass, so its output is no "
                f"single z. Name one of its runs, {layer.module}#1 to {layer.module}#{runs}, or choose a module around it"
            )
    for layer, tensor in zip(split.layers, record.outputs(), strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise SplitError(
                f"{layer.place!r}, {owner}, returns values that are not finite for a finite image"
            )


def _require_rows(split: Cut, x_hu: Tensor, owner: str) -> None:
    """One row of z per image that depends on this image, and on no other of the batch."""
    x, (second, third) = x_hu[:1], (other[:1] for other in _others(x_hu))
    pairs = (_tensors(split.phi(torch.cat([x, image]))) for image in (second, third))
    for layer, one, two in zip(split.layers, *pairs, strict=True):
        if one.dim() < 2 or one.shape[0] != 2:
            raise SplitError(
                f"{layer.place!r}, {owner}, gives shape {tuple(one.shape)} for 2 images; the first "
                "axis of z must count the images. Choose a layer before or after the rearrangement"
            )
        if torch.equal(one[0], one[1]):
            raise SplitError(f"z of {layer.place!r}, {owner}, does not depend on the image at all")
        if not torch.equal(one[0], two[0]):
            raise SplitError(
                f"z of {layer.place!r}, {owner}, depends on the other images of the batch. "
                "Normalisation must use stored statistics, and the first axis must count the images"
            )


def _tensors(z: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return z if isinstance(z, tuple) else (z,)


def _others(x_hu: Tensor) -> tuple[Tensor, Tensor]:
    """Return two images per image that share nothing with it but the size and the range of values."""
    height, width = x_hu.shape[-2:]
    rows = torch.arange(height, device=x_hu.device, dtype=x_hu.dtype)[:, None]
    columns = torch.arange(width, device=x_hu.device, dtype=x_hu.dtype)
    pattern = 100 * torch.cos(0.9 * rows + 1.7 * columns + 0.03 * rows * columns)
    return x_hu.flip(-1) + pattern, x_hu.flip(-2) - 2 * pattern.flip(-1) + 37


def _leak(split: Cut, z: Tensor | tuple[Tensor, ...], expected: Tensor, other: Tensor) -> float:
    moved = split.psi(z, other)
    if torch.equal(moved, expected):
        return 0.0
    whole = float(in_float64(split.denoiser(other) - expected).norm())
    part = float(in_float64(moved - expected).norm())
    leak = part / whole if whole > 0 else 1.0
    # A change too small to weigh against the whole is still one: never report it as a cut.
    return max(leak, 1e-12) if math.isfinite(leak) else 1.0
