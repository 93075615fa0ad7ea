"""ONNX files: converted into a network of PyTorch where that gives the same, else run by onnxruntime as a whole."""

__all__ = ["from_onnx"]

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invkit.artifacts import sha256_file
from invkit.denoisers.formats.found import Found, channels_of
from invkit.denoisers.formats.opaque import Opaque
from invkit.errors import ArtifactError, UsageError

FREE = 64  # pixels a side of the image that is tried where sides are free
AGREE = 1e-4  # of the largest value, by which the two may differ


def from_onnx(path: Path) -> Found:
    """Return the network of an `.onnx` file.

    Raises:
        ArtifactError: it cannot be read, or does not take one image.
        UsageError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"{path.name} needs pip install 'invkit[onnx]' ({error})") from None
    try:
        model = onnx.load(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"{path.name} cannot be loaded as ONNX: {str(error)[:300]}") from None
    batch, channels, height, width = _shape(session, path)
    if height != width:
        raise ArtifactError(
            f"{path.name} was exported for images of {height} x {width} pixels alone: export it with dynamic_axes"
        )
    run = _Session(session)
    count, call = channels_of(channels or 1, owner=path.name)
    network = _converted(model, run, channels or 1, height or FREE)
    if network is None:
        network = Opaque(run, sha256_file(path), single=batch == 1, dtype=torch.float32)
        network.differentiable = False
    return Found(network, count, call, height)


class _Session:
    """A session of onnxruntime as a function of tensors."""

    def __init__(self, session: Any) -> None:
        self.session, self.name = session, session.get_inputs()[0].name

    def __call__(self, x: Tensor) -> Tensor:
        (out, *_) = self.session.run(None, {self.name: np.ascontiguousarray(x.detach().cpu().numpy())})
        return torch.from_numpy(out).to(x.device)


def _shape(session: Any, path: Path) -> tuple[int | None, ...]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        raise ArtifactError(
            f"{path.name} takes {', '.join(f'{one.name} {one.shape} {one.type}' for one in inputs)}; a denoiser takes one image of "
            "(B, C, H, W) in float32"
        )
    return tuple(side if isinstance(side, int) else None for side in inputs[0].shape)


def _converted(model: Any, run: _Session, channels: int, side: int) -> nn.Module | None:
    """Return the file as modules of PyTorch, if they give what onnxruntime gives, also for two images at once."""
    try:
        from onnx2torch import convert
    except ImportError:
        return None
    x = torch.rand((2, channels, side, side), generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            network: nn.Module = convert(model).eval().requires_grad_(False)
            found, expected = network(x), torch.cat([run(one) for one in x.split(1)])
    except Exception:
        return None
    scale = float(expected.abs().max())
    same = found.shape == expected.shape and float((found - expected).abs().max()) <= AGREE * scale
    return network if same else None
