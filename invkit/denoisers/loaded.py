"""A denoiser that is ready to use: HU in, HU out."""

__all__ = ["LoadedDenoiser", "load_denoiser", "wrap_module"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.denoisers.call import call_network, described_call
from invkit.denoisers.network import at_rest, network_fingerprint, unwrap
from invkit.denoisers.spec import Affine, Call, Denoiser, Layer, Preprocessing, Weights
from invkit.denoisers.weights.read import load_into, read_weights
from invkit.errors import (
    DenoiserError,
    ImageError,
    InvkitError,
    ResourceError,
    UnknownNameError,
    UsageError,
    described,
    place_of,
)
from invkit.training.seeds import seeded

# Patches of 128 x 128 pixels that go through a network, or some layers of it, together: its activations, up to 64 channels at
# full resolution, then stay in the processor's cache. More are no faster there and only cost memory.
AT_ONCE = 4
PIXELS_AT_ONCE = AT_ONCE * 128 * 128


class LoadedDenoiser:
    """A denoiser's description together with its network, on one device.

    Everything runs in eval mode, in full precision and without gradients of the parameters; gradients
    with respect to the image are computed where the caller enables them. The state of the network is restored afterwards.

    Args:
        spec: the description.
        network: the network; not copied.
        weights_tag: where its weights come from.
        preprocessing: overrides that of `spec`.

    Attributes:
        sha256: fingerprint of weights, structure, preprocessing and size multiple: it identifies the function.
        size_multiple: height and width are padded to multiples of this; 1 where the description says nothing.
        repeatability: largest difference between two calls on one image that was seen, HU; 0 where all were alike.
        probed: whether `invkit.denoisers.contract.probed` has tested it.
    """

    spec: Denoiser
    network: nn.Module
    weights_tag: str
    preprocessing: Preprocessing
    sha256: str
    size_multiple: int
    repeatability: float
    probed: bool

    def __init__(
        self,
        spec: Denoiser,
        network: nn.Module,
        *,
        weights_tag: str,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.spec = spec
        self.network = unwrap(network, owner=f"denoiser {spec.name}")
        self.weights_tag = weights_tag
        self.preprocessing = preprocessing or spec.preprocessing
        self.size_multiple = spec.size_multiple or 1
        self.repeatability = 0.0
        self.probed = False
        self.sha256 = network_fingerprint(
            self.network,
            {
                "preprocessing": self.preprocessing.describe(),
                "size_multiple": self.size_multiple,
                **described_call(spec),
            },
        )

    @property
    def name(self) -> str:
        """The denoiser's name, without the weights tag."""
        return self.spec.name

    @property
    def device(self) -> torch.device:
        """Where the network is; the CPU for a network without any tensor."""
        tensor = self._first_tensor()
        return torch.device("cpu") if tensor is None else tensor.device

    def __call__(self, x_hu: Tensor) -> Tensor:
        """Return f(x).

        Args:
            x_hu: images, shape `(B, 1, H, W)`, HU; left unchanged.

        Returns:
            denoised images, the same shape and dtype, HU, on the network's device.

        Raises:
            ImageError: `x_hu` is not a batch of images.
            DenoiserError: the network raised, or returned another shape, type or device.
        """
        size = (int(x_hu.shape[-2]), int(x_hu.shape[-1])) if x_hu.dim() == 4 else (0, 0)
        return self.finish(self.run(self.prepare(x_hu)), size).to(x_hu.dtype)

    def prepare(self, x_hu: Tensor) -> Tensor:
        """Map images to network units and pad them to the size multiple, at the bottom and right.

        Args:
            x_hu: images, shape `(B, 1, H, W)`, HU.

        Returns:
            a new tensor `(B, 1, H', W')`, network units, in the network's dtype and on its device.

        Raises:
            ImageError: `x_hu` is not a batch of images.
        """
        if x_hu.dim() != 4 or x_hu.shape[1] != 1 or x_hu.numel() == 0 or not x_hu.is_floating_point():
            raise ImageError(
                f"denoiser {self.name} takes images of shape (B, 1, H, W) with floating numbers in HU, got "
                f"shape {tuple(x_hu.shape)} of {x_hu.dtype}"
            )
        tensor = self._first_tensor()
        if tensor is not None:
            x_hu = x_hu.to(device=tensor.device, dtype=tensor.dtype)
        # A clone: a preprocessing or a network that works in place must not change the caller's image.
        return self._pad(self.preprocessing.normalise(x_hu.clone()))

    def run(self, prepared: Tensor) -> Tensor:
        """Run the network itself: from prepared images to its output, both in network units.

        Args:
            prepared: what `prepare` gave, shape `(B, 1, H', W')`; a network may change it.

        Returns:
            the network's output, shape `(B, 1, H', W')`.

        Raises:
            DenoiserError: the network raised, or returned another shape, type or device.
            ResourceError: there was not enough memory.
        """
        shape, device = tuple(prepared.shape), prepared.device
        try:
            with at_rest(self.network):
                out: Any = call_network(self.network, prepared, self.spec)
        except InvkitError:
            raise
        except (Exception, SystemExit) as error:
            text = str(error).splitlines()[0] if str(error) else ""
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(
                error
            ):
                raise ResourceError(
                    f"denoiser {self.name} ran out of memory for shape {shape}: {text}"
                ) from error
            raise DenoiserError(
                f"denoiser {self.name} raised {type(error).__name__} on an input of shape {shape}, "
                f"{prepared.dtype}: {text}{place_of(error)}{_gradient_hint(text)}"
            ) from error
        if not isinstance(out, Tensor):
            raise DenoiserError(
                f"denoiser {self.name} must return one tensor of shape {shape}, got {type(out).__name__}"
            )
        if out.layout != torch.strided or out.is_quantized:
            raise DenoiserError(
                f"denoiser {self.name} must return plain numbers, got a {'quantised' if out.is_quantized else 'sparse'} tensor; "
                "end its forward with .dequantize() or .to_dense()"
            )
        if tuple(out.shape) != shape or not out.is_floating_point() or out.device != device:
            raise DenoiserError(
                f"denoiser {self.name} must return shape {shape} with floating numbers on {device}, got "
                f"shape {tuple(out.shape)}, {out.dtype}, on {out.device}"
            )
        return out

    def finish(self, out: Tensor, size: tuple[int, int]) -> Tensor:
        """Map the network's output `(B, 1, H', W')` to HU and crop it to `size` = (H, W)."""
        return self.preprocessing.denormalise(out[..., : size[0], : size[1]])

    def _first_tensor(self) -> Tensor | None:
        return next(
            (t for t in (*self.network.parameters(), *self.network.buffers()) if t.is_floating_point()), None
        )

    def _pad(self, x: Tensor) -> Tensor:
        multiple = self.size_multiple
        while any(side % multiple for side in x.shape[-2:]):
            # Reflection reaches at most one image further, so a small image takes several rounds.
            down, right = (min(-side % multiple, side - 1) for side in x.shape[-2:])
            if down or right:
                x = functional.pad(x, (0, right, 0, down), mode="reflect")
            else:
                x = functional.pad(
                    x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), mode="replicate"
                )
        return x


def load_denoiser(
    spec: Denoiser,
    tag: str | None = None,
    *,
    device: torch.device | str = "cpu",
    untrained_seed: int | None = None,
    cache: Path | None = None,
) -> LoadedDenoiser:
    """Build a denoiser's network and load its weights.

    Args:
        spec: the description.
        tag: which weights; the first ones by default.
        device: where to put the network.
        untrained_seed: take a freshly initialised network from this seed instead of trained weights.
        cache: folder for downloads; see `invkit.artifacts.cache_folder`.

    Returns:
        the denoiser. Its `weights_tag` is the tag, `"untrained-SEED"`, or `"built"` where the description has
        no weights: then the network is as `build()` returns it, with the seed 0 for what it draws.

    Raises:
        UnknownNameError: no weights have this tag.
        UsageError: both a tag and `untrained_seed` were given.
        ArtifactError: the weights are missing or were changed.
        DenoiserError: `build` failed, or the weights do not fit.
    """
    if tag is not None and untrained_seed is not None:
        raise UsageError(
            f"denoiser {spec.name}: give weights ({tag!r}) or untrained_seed ({untrained_seed}), not both"
        )
    weights = None if untrained_seed is not None else _choose(spec, tag)
    build = weights.build if weights is not None and weights.build is not None else spec.build
    network = unwrap(_build(spec.name, build, untrained_seed or 0), owner=f"denoiser {spec.name}")
    if weights is not None:
        load_into(network, read_weights(weights, cache=cache), owner=f"{spec.name}.{weights.tag}")
    try:
        network = network.float().eval().requires_grad_(False).to(device)
    except (RuntimeError, AssertionError) as error:
        raise ResourceError(
            f"denoiser {spec.name} cannot be put on device {str(device)!r}: {error}"
        ) from None
    if weights is not None:
        return LoadedDenoiser(spec, network, weights_tag=weights.tag, preprocessing=weights.preprocessing)
    return LoadedDenoiser(
        spec, network, weights_tag="built" if untrained_seed is None else f"untrained-{untrained_seed}"
    )


def wrap_module(
    module: nn.Module,
    *,
    name: str = "module",
    preprocessing: Preprocessing | None = None,
    layers: tuple[Layer, ...] = (),
    size_multiple: int | None = None,
    channels: int = 1,
    call: Call | None = None,
) -> LoadedDenoiser:
    """Use any network from `(B, 1, H, W)`, or as `call` and `channels` say, to the same shape as a denoiser.

    The module is used as it is, not copied: later changes of its weights count, except in `sha256`, which is
    taken now. Its training mode and the `requires_grad` of its parameters are restored after every call.

    Args:
        module: the network; `DataParallel` and `torch.compile` wrappers are taken off.
        name: how reports call it.
        preprocessing: between HU and network units; by default the network takes and returns HU.
        layers: short keys for its layers.
        size_multiple: height and width must be multiples of this; images are padded and cropped again. `None` where it is
            not known: it is found by trying where the denoiser is probed, and 1 until then.
        channels: of the network's input, 1 or 3.
        call: how the network is called, where that is not `module(image)`.

    Raises:
        DenoiserError: it is no `nn.Module`, or a TorchScript module.
    """
    network = unwrap(module, owner=f"denoiser {name}")
    spec = Denoiser(
        name=name,
        build=lambda: network,
        preprocessing=preprocessing or Affine(mean=0.0, std=1.0),
        layers=layers,
        size_multiple=size_multiple,
        channels=channels,
        call=call or Call(),
    )
    return LoadedDenoiser(spec, network, weights_tag="given")


def _choose(spec: Denoiser, tag: str | None) -> Weights | None:
    if tag is None:
        return spec.weights[0] if spec.weights else None
    for weights in spec.weights:
        if weights.tag == tag:
            return weights
    known = ", ".join(weights.tag for weights in spec.weights) or "none"
    raise UnknownNameError(f"denoiser {spec.name} has no weights {tag!r}; there are: {known}")


def _gradient_hint(text: str) -> str:
    """Return what to do about an error of autograd that a forward pass raised, or nothing."""
    if not any(part in text for part in ("does not require grad", "not have been used in the graph")):
        return ""
    return (
        ". It differentiates in its forward pass, which runs without gradients: wrap that part in torch.enable_grad() and "
        "differentiate with respect to x.detach().requires_grad_(). It cannot be split at a layer inside of what it "
        "differentiates: choose one behind it, or 'output'"
    )


def _build(name: str, build: Callable[[], nn.Module], seed: int) -> Any:
    try:
        return seeded(build, seed)
    except (Exception, SystemExit) as error:
        raise DenoiserError(f"denoiser {name}: build() failed: {described(error)}") from error
