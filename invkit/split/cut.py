"""Phi and Psi: a network stopped at a layer, and started there."""

__all__ = ["Activation", "Cut", "never_called"]

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from invkit.denoisers.loaded import LoadedDenoiser, wrap_module
from invkit.denoisers.spec import CONTROLS
from invkit.errors import DenoiserError, ImageError, ResourceError, SplitError
from invkit.split.grid import Grid, grid_of
from invkit.split.hooks import Recording, capture, replace
from invkit.split.layers import ResolvedLayer, resolve

Activation = Tensor | tuple[Tensor, ...]
PROBE = 64


class Cut:
    """Phi and Psi of a denoiser at a layer; see `invkit.split.split.Split`, which can also check itself."""

    denoiser: LoadedDenoiser
    layer: str
    layers: tuple[ResolvedLayer, ...]
    is_control: bool

    def __init__(
        self, denoiser: LoadedDenoiser | nn.Module, layer: str | Sequence[str], *, allow_bypass: bool = False
    ) -> None:
        self.denoiser = denoiser if isinstance(denoiser, LoadedDenoiser) else _wrapped(denoiser)
        owner = self.denoiser.name
        if not isinstance(layer, str | Sequence):
            raise SplitError(f"a layer of {owner} must be named by a string such as '3', got {layer!r}")
        texts = [layer] if isinstance(layer, str) else list(layer)
        members = [part.strip() for text in texts for part in str(text).split("+")]
        self.layer = "+".join(members)
        chosen = [text for text in members if text in CONTROLS]
        if chosen and len(members) > 1:
            raise SplitError(f"{chosen[0]!r} must be used alone, not in a set of layers, got {self.layer!r}")
        self.is_control = self.layer in ("input", "const")
        self.layers = (
            () if chosen else resolve(self.denoiser.network, self.denoiser.spec.layers, texts, owner=owner)
        )
        if not chosen and not self.layers:
            raise SplitError(f"no layer of {owner} was named")
        if any(layer.element or layer.function for layer in self.layers):
            self._require_elements()

    def phi(self, x_hu: Tensor) -> Activation:
        """Return z, without gradient; the forward pass stops where z is complete.

        Args:
            x_hu: images, shape `(B, 1, H, W)`, HU.

        Returns:
            z, shape `(B, ...)`, a clone of its own; for a set of layers a tuple in the order in which they
            were given.

        Raises:
            SplitError: a layer did not run, or gives no tensor.
            DenoiserError: the network breaks its contract.
        """
        with torch.no_grad():
            return self._phi(x_hu)

    def phi_grad(self, x_hu: Tensor) -> Activation:
        """Return z as `phi` does, differentiable with respect to `x_hu`; also inside `torch.func` transforms.

        Raises:
            SplitError: as `phi`; or no gradient reaches the image.
        """
        with torch.enable_grad():
            z = self._phi(x_hu)
        blocked = [tensor for tensor in (z if isinstance(z, tuple) else (z,)) if not tensor.requires_grad]
        if blocked and x_hu.requires_grad and self.layer != "const":
            raise SplitError(
                f"layer {self.layer!r} of {self.denoiser.name} passes no gradient to the image. The "
                "network runs it under torch.no_grad, detaches, or checkpoints it with use_reentrant=True "
                "(use_reentrant=False works)"
            )
        return z

    def phi_and_f(self, x_hu: Tensor) -> tuple[Activation, Tensor]:
        """Return z and f(x) from one pass of the network, as `phi` and the denoiser give them, without gradient.

        Raises:
            SplitError: as `phi`.
            DenoiserError: the network breaks its contract.
        """
        with torch.no_grad():
            if self.is_control:
                return self._phi(x_hu), self.denoiser(x_hu)
            prepared = self.denoiser.prepare(x_hu)
            out: Tensor | None = None
            with capture(self.denoiser.network, self.layers, stop=False) as record:
                out = self.denoiser.run(prepared)
            values = record.outputs()
            if out is None or len(values) < len(self.layers):
                raise self._not_once(record)
            if self.layer == "output":
                values = [out.clone()]
            f_x = self.denoiser.finish(out, (int(x_hu.shape[-2]), int(x_hu.shape[-1]))).to(x_hu.dtype)
            return (values[0] if len(values) == 1 else tuple(values)), f_x

    def psi(self, z: Activation, carrier: Tensor) -> Tensor:
        """Return the denoised image that belongs to z, with gradient where z or the carrier asks for it.

        Args:
            z: what `phi` gives, for B images.
            carrier: images, shape `(B, 1, H, W)` or `(1, 1, H, W)`, HU. They run up to the layer to give
                whatever goes round it; for a cut, only their size matters.

        Returns:
            images, shape `(B, 1, H, W)`, HU.

        Raises:
            SplitError: z has another shape than the layer gives, the layer ran not exactly once, or it is
                `const`.
        """
        tensors = z if isinstance(z, tuple) else (z,)
        wanted = max(len(self.layers), 1)
        if len(tensors) != wanted:
            raise SplitError(f"z of layer {self.layer!r} is {wanted} tensor(s), got {len(tensors)}")
        if self.layer == "const":
            raise SplitError(
                "the control 'const' keeps nothing of the image, so there is no Psi to continue with"
            )
        if self.layer == "input":
            return self.denoiser(tensors[0])
        if carrier.dim() == 4 and carrier.shape[0] == 1 and tensors[0].dim() > 0:
            carrier = carrier.expand(tensors[0].shape[0], -1, -1, -1)
        prepared = self.denoiser.prepare(carrier)
        size = (int(carrier.shape[-2]), int(carrier.shape[-1]))
        if self.layer == "output":
            if tensors[0].shape != prepared.shape:
                raise SplitError(
                    f"z of layer 'output' has shape {tuple(tensors[0].shape)}, but for this carrier it is "
                    f"{tuple(prepared.shape)}"
                )
            return self.denoiser.finish(tensors[0], size).to(carrier.dtype)
        out: Tensor | None = None
        with replace(self.denoiser.network, self.layers, tensors) as record:
            out = self.denoiser.run(prepared)
        if out is None or record.fault is not None or not record.once:
            raise record.fault or self._not_once(record)
        return self.denoiser.finish(out, size).to(carrier.dtype)

    def grid(self, x_hu: Tensor) -> tuple[Grid, ...]:
        """Return how each tensor of z lies on the image, for one image of the size of `x_hu`."""
        z = self.phi(x_hu[:1])
        height, width = self.denoiser.prepare(x_hu[:1]).shape[-2:] if not self.is_control else x_hu.shape[-2:]
        return tuple(
            grid_of(tensor, (int(height), int(width))) for tensor in (z if isinstance(z, tuple) else (z,))
        )

    def record(self, x_hu: Tensor) -> Recording:
        """Run the whole network without gradient; return how often each layer ran and what it gave first."""
        with torch.no_grad(), capture(self.denoiser.network, self.layers, stop=False) as record:
            self.denoiser.run(self.denoiser.prepare(x_hu))
        if record.fault is not None:
            raise record.fault
        return record

    def describe(self) -> dict[str, Any]:
        """Return what defines Phi, as JSON values: equal descriptions mean equal z for every image.

        A control knows nothing of the denoiser, so its description names none. Keys are given as module
        names, so `"3"` and the module it stands for are the same.
        """
        if self.is_control:
            return {"control": self.layer}
        return {
            "denoiser": self.denoiser.name,
            "sha256": self.denoiser.sha256,
            "layers": [layer.name for layer in self.layers] or [self.layer],
        }

    def _require_elements(self) -> None:
        # `name.key` and `name#2` may be misspelt modules as well; only a run of the network can tell.
        with contextlib.suppress(DenoiserError, ResourceError):
            record = self.record(torch.zeros(1, 1, PROBE, PROBE))
            for layer, runs in zip(self.layers, record.runs, strict=True):
                if layer.function and runs < (layer.call or 1):
                    raise never_called(layer, record, self.denoiser.name)

    def _phi(self, x_hu: Tensor) -> Activation:
        if self.is_control:
            if x_hu.dim() != 4 or x_hu.shape[1] != 1 or not x_hu.is_floating_point():
                raise ImageError(
                    f"images must be floating-point tensors of shape (B, 1, H, W), got {tuple(x_hu.shape)}"
                )
            return x_hu.clone() if self.layer == "input" else torch.zeros_like(x_hu)
        prepared = self.denoiser.prepare(x_hu)
        if self.layer == "output":
            return self.denoiser.run(prepared).clone()
        with capture(self.denoiser.network, self.layers, stop=True) as record:
            self.denoiser.run(prepared)
        values = record.outputs()
        if len(values) < len(self.layers):
            raise self._not_once(record)
        return values[0] if len(values) == 1 else tuple(values)

    def _not_once(self, record: Recording) -> SplitError:
        runs = ", ".join(f"{layer.place} {n}" for layer, n in zip(self.layers, record.runs, strict=True))
        return SplitError(
            f"layer {self.layer!r} of {self.denoiser.name} must run exactly once in a pass, it ran: {runs} "
            "times. Name one of its runs, NAME#1 for the first, or choose a module that runs once"
        )


def never_called(layer: ResolvedLayer, record: Recording, owner: str) -> SplitError:
    """Return the error for a call of a function or module that did not happen."""
    if not layer.function:
        runs = record.runs[record.layers.index(layer)]
        return SplitError(
            f"layer {layer.text!r} of {owner}: module {layer.module!r} runs {runs} times in one pass, so there is no call "
            f"{layer.call}"
        )
    counted = ", ".join(f"{name} ({count})" for name, count in sorted(record.functions.items()))
    return SplitError(
        f"layer {layer.text!r} of {owner}: there is no module {layer.function!r}, and no function of this name was called "
        f"{layer.call} times. Functions called: {counted or 'none'}"
    )


def _wrapped(module: nn.Module) -> LoadedDenoiser:
    try:
        return wrap_module(module)
    except DenoiserError as error:
        parts = module.modules() if isinstance(module, nn.Module) else ()
        if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
            raise SplitError(str(error)) from None
        raise
