"""A flow as tensors and settings for `artifacts.save`, in half precision where that loses nothing."""

__all__ = ["cinn_from", "cinn_state", "drop_idle", "round_half"]

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from invkit.errors import ArtifactError, CheckFailedError
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import Block


@torch.no_grad()
def round_half(cinn: CINN) -> None:
    """Round every number of the flow, in place, to one that float16 holds; it stays in its own precision.

    Figures measured after this belong to the file that `cinn_state` gives.

    Raises:
        CheckFailedError: a number is beyond float16's range; nothing was changed.
    """
    state = {name: tensor for name, tensor in cinn.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor.half()).all():
            raise CheckFailedError(
                f"{name} of the flow holds {float(tensor.abs().max()):.3g}, beyond what half precision "
                "can store (65504). Scale the condition, or store the flow without rounding"
            )
    for tensor in state.values():
        tensor.copy_(tensor.half())


def drop_idle(cinn: CINN) -> None:
    """Take couplings that map every code to itself out of a flow, as all of them do where its start was kept.

    It maps as before and cannot be trained any more.
    """
    for block in cinn.blocks:
        assert isinstance(block, Block)
        if block.coupling is not None and block.coupling.idle:
            block.coupling = None


def cinn_state(cinn: CINN) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a flow and what is needed to build it again, as JSON.

    A tensor is stored in float16 if that changes none of its numbers (all of them after `round_half`), else
    as it is.
    """
    tensors = {}
    for name, tensor in cinn.state_dict().items():
        lossless = tensor.is_floating_point() and torch.equal(tensor.half().to(tensor), tensor)
        tensors[name] = tensor.detach().half() if lossless else tensor.detach().clone()
    meta = {"config": cinn.config.model_dump(mode="json"), "condition_shape": list(cinn.condition_shape)}
    return tensors, meta


def cinn_from(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> CINN:
    """Return the flow that `cinn_state` took apart, in float32 and eval mode, without couplings that do nothing.

    Raises:
        ArtifactError: the settings are unknown to this version, tensors are missing or of other shapes, or a
            number
            is not finite.
    """
    try:
        config = CinnConfig.model_validate(meta["config"])
        shape = tuple(int(size) for size in meta["condition_shape"])
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ArtifactError(f"the settings of this flow cannot be read: {error}. Train it again") from None
    cinn = CINN(config, shape)
    for number, block in enumerate(cinn.blocks):
        assert isinstance(block, Block)
        if not any(name.startswith(f"blocks.{number}.coupling.") for name in tensors):
            block.coupling = None  # it was left out
    wanted = cinn.state_dict()
    odd = sorted(wanted.keys() ^ tensors.keys())
    odd += [name for name in wanted.keys() & tensors.keys() if wanted[name].shape != tensors[name].shape]
    if odd:
        raise ArtifactError(
            f"these tensors do not fit the flow's settings: {', '.join(odd[:5])} ({len(odd)} in all). "
            "Train it again"
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ArtifactError(f"{name} of the stored flow is not finite. Train it again")
    cinn.load_state_dict({name: tensor.to(wanted[name]) for name, tensor in tensors.items()})
    drop_idle(cinn)
    return cinn.eval()
