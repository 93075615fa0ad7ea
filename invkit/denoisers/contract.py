"""Whether a denoiser keeps its contract: tested once where it is loaded, and on the image that is analysed."""

__all__ = ["check_contract", "inverse_error", "probed"]

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.network import StateSnapshot
from invkit.denoisers.sizes import probe_images, working_multiple
from invkit.denoisers.spec import Preprocessing
from invkit.errors import DenoiserError
from invkit.statistics.intervals import number

# Twice the rounding of float32 at the ends of the HU scale, with room for a shift and a scale each way.
INVERSE_TOLERANCE = 16 * 4096 * torch.finfo(torch.float32).eps
ROUNDING = 0.01  # HU that two calls on one image may differ by, where a program adds up in changing order
APART = 4  # times the difference of two calls that another batch may make where two calls differ
PATCH = 128  # pixels a side of what scales and models are measured on


def probed(loaded: LoadedDenoiser) -> LoadedDenoiser:
    """Test a denoiser that was just loaded, on noise of the smallest size that will do, and return it.

    Tested are: its preprocessing can be undone, the network leaves its own parameters and buffers as they were, and f of an
    image does not depend on the others of its batch. A size multiple that is not declared is found by trying.

    Args:
        loaded: the denoiser; tested once only.

    Returns:
        the same denoiser, or one with the size multiple that was found where that is more than 1.

    Raises:
        DenoiserError: it breaks its contract; the state of its network is what it was before.
    """
    if loaded.probed:
        return loaded
    inverse_error(loaded.preprocessing, owner=f"denoiser {loaded.name}: its preprocessing")
    snapshot = StateSnapshot(loaded.network)
    try:
        multiple, sides = working_multiple(loaded)
    finally:
        _require_unchanged(loaded, snapshot)
    if multiple != loaded.size_multiple:
        spec = replace(loaded.spec, size_multiple=multiple)
        loaded = LoadedDenoiser(
            spec, loaded.network, weights_tag=loaded.weights_tag, preprocessing=loaded.preprocessing
        )
    _require_rows(loaded, probe_images(sides))
    _require_unchanged(loaded, snapshot)
    loaded.probed = True
    return loaded


def check_contract(loaded: LoadedDenoiser, x_hu: Tensor) -> Tensor:
    """Check on the image that a denoiser keeps its contract, before anything is trained on it; return f(x).

    The output must be one finite floating tensor of the input's shape on its device, and the same when the call is repeated;
    also for a patch of 128 x 128 pixels, the size of those that models are trained on. A difference below 0.01 HU between
    two calls is rounding and stands in `repeatability`. What was not probed yet is tested for that, too.

    Args:
        loaded: the denoiser.
        x_hu: finite images, shape `(B, 1, H, W)`, HU.

    Raises:
        DenoiserError: it does not; the message gives names and shapes.
    """
    if not loaded.probed:
        snapshot = StateSnapshot(loaded.network)
        try:
            with torch.no_grad():
                loaded(x_hu)
        finally:
            _require_unchanged(loaded, snapshot)
    f_x = _repeated(loaded, x_hu)
    if tuple(x_hu.shape[-2:]) != (PATCH, PATCH):
        right, down = (max(0, PATCH - side) for side in (x_hu.shape[-1], x_hu.shape[-2]))
        _repeated(
            loaded, functional.pad(x_hu[:1], (0, right, 0, down), mode="replicate")[..., :PATCH, :PATCH]
        )
    if not loaded.probed:
        others = x_hu[:1].flip(-1) + 50, x_hu[:1].flip(-2) - 100
        _require_rows(loaded, torch.cat([x_hu[:1], *others]))
    return f_x


def inverse_error(preprocessing: Preprocessing, *, owner: str = "the preprocessing") -> float:
    """Return how far HU from -1024 to 3071 come back from network units, at most.

    Raises:
        DenoiserError: further than rounding explains.
    """
    x = torch.linspace(-1024.0, 3071.0, 4096).view(1, 1, 64, 64)
    back = preprocessing.denormalise(preprocessing.normalise(x.clone()))
    worst = float((back - x).abs().max()) if back.shape == x.shape else float("inf")
    if not worst <= INVERSE_TOLERANCE:
        raise DenoiserError(
            f"{owner} cannot be undone: denormalise(normalise(x)) is off by {number(worst)} HU between -1024 and 3071 HU, "
            f"allowed is {number(INVERSE_TOLERANCE)}. A map that clips cannot be undone: clip inside the network"
        )
    return worst


def _require_unchanged(loaded: LoadedDenoiser, snapshot: StateSnapshot) -> None:
    changed = snapshot.changed()
    if changed:
        snapshot.restore()
        raise DenoiserError(
            f"denoiser {loaded.name} changes its own state when it runs: {', '.join(changed[:5])}"
            f"{f' and {len(changed) - 5} more' if len(changed) > 5 else ''}. They were put back. Run it once on training data "
            "so that it is initialised, and keep no running statistics in eval mode"
        )


def _require_rows(loaded: LoadedDenoiser, images: Tensor) -> None:
    """Test that f of the first image is the same beside the second as beside the third."""
    x, second, third = images.split(1)
    with torch.no_grad():
        one, two = (loaded(torch.cat([x, other]))[0] for other in (second, third))
        if torch.equal(one, two):
            return
        again = loaded(torch.cat([x, second]))[0]
    apart, repeated = float((one - two).abs().max()), float((one - again).abs().max())
    if repeated > ROUNDING:
        raise _unsteady(loaded, tuple(x.shape), repeated)
    if not apart <= APART * max(repeated, loaded.repeatability):
        raise DenoiserError(
            f"denoiser {loaded.name} mixes the images of a batch: f of one image changes by up to {number(apart)} HU with the "
            "other image of its batch. Normalisation must use stored statistics (track_running_stats=True, or instance or "
            "group normalisation), and the first axis must count the images"
        )


def _repeated(loaded: LoadedDenoiser, x: Tensor) -> Tensor:
    with torch.no_grad():
        first, second = loaded(x), loaded(x)
    shape = tuple(x.shape)
    bad = int((~torch.isfinite(first)).sum())
    if bad:
        raise DenoiserError(
            f"denoiser {loaded.name} returns {bad} of {first.numel()} pixels that are not finite for a "
            f"finite image of shape {shape}"
        )
    if not torch.equal(first, second):
        worst = float((first - second).abs().max())
        if not worst <= ROUNDING:
            raise _unsteady(loaded, shape, worst)
        loaded.repeatability = max(loaded.repeatability, worst)
    return first


def _unsteady(loaded: LoadedDenoiser, shape: tuple[int, ...], worst: float) -> DenoiserError:
    return DenoiserError(
        f"denoiser {loaded.name} is not deterministic: two calls on one image of shape {shape} "
        f"differ by {number(worst)} HU. Random parts must be disabled in eval mode, and no state may be kept"
    )
