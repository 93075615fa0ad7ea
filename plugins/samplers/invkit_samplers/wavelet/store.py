"""A wavelet flow as tensors and settings for `artifacts.save`."""

__all__ = ["wavelet_from", "wavelet_state"]

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from invkit import ArtifactError
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.flow import WaveletFlow


def wavelet_state(flow: WaveletFlow) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a flow in float32, and as JSON values what is needed to build it again."""
    meta = {"config": flow.config.model_dump(mode="json"), "inputs": flow.inputs}
    return {name: tensor.detach().clone() for name, tensor in flow.state_dict().items()}, meta


def wavelet_from(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> WaveletFlow:
    """Return the flow that `wavelet_state` took apart, in eval mode, without gradients on its parameters.

    Raises:
        ArtifactError: the settings are unknown to this version, tensors are missing or of other shapes, or a number is not
            finite.
    """
    try:
        flow = WaveletFlow(WaveletConfig.model_validate(meta["config"]), int(meta["inputs"]))
        flow.load_state_dict(dict(tensors))
    except (KeyError, TypeError, ValueError, ValidationError, RuntimeError) as error:
        raise ArtifactError(f"the stored wavelet flow cannot be read: {error}. Train it again") from None
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ArtifactError("the stored wavelet flow holds values that are not finite. Train it again")
    return flow.eval().requires_grad_(False)
