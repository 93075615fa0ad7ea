"""The state of modules and optimisers as flat names and tensors, and back, bit for bit."""

__all__ = ["copy_state", "module_tensors", "optimizer_tensors", "restore_modules", "restore_optimizers"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invkit.errors import ArtifactError

Modules = Mapping[str, nn.Module]
Optimizers = Mapping[str, torch.optim.Optimizer]


def module_tensors(modules: Modules, prefix: str = "modules") -> dict[str, Tensor]:
    """Return parameters and buffers under `prefix/module/key`; they are the live tensors, not copies."""
    return {
        f"{prefix}/{name}/{key}": tensor
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def copy_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, so that later steps do not change them."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def restore_modules(modules: Modules, tensors: Mapping[str, Tensor], prefix: str = "modules") -> None:
    """Set parameters and buffers from what `module_tensors` gave.

    Raises:
        ArtifactError: a name or shape does not fit the modules.
    """
    for name, module in modules.items():
        start = f"{prefix}/{name}/"
        state = {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise ArtifactError(
                f"the checkpoint does not fit module {name!r}: it is of another model. "
                f"Choose another folder, or delete this one to train from the beginning ({error})"
            ) from error


def optimizer_tensors(optimizers: Optimizers) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the optimisers' tensors under `optimizers/phase/index/key`, and the rest as JSON values."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for phase, optimizer in optimizers.items():
        state = optimizer.state_dict()
        numbers: dict[str, dict[str, Any]] = {}
        for index, entries in state["state"].items():
            numbers[str(index)] = {}
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizers/{phase}/{index}/{key}"] = value
                else:
                    numbers[str(index)][key] = value
        plain[phase] = {"groups": [_plain(group) for group in state["param_groups"]], "numbers": numbers}
    return tensors, plain


def restore_optimizers(
    optimizers: Optimizers, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    """Set the optimisers from what `optimizer_tensors` gave.

    Raises:
        ArtifactError: the optimisers or their parameters are others.
    """
    for phase, optimizer in optimizers.items():
        groups = optimizer.state_dict()["param_groups"]
        saved = plain.get(phase)
        if saved is None or [len(group["params"]) for group in saved["groups"]] != [
            len(group["params"]) for group in groups
        ]:
            raise ArtifactError(
                f"the checkpoint does not fit optimiser {phase!r}: it is of another training. "
                "Choose another folder, or delete this one to train from the beginning"
            )
        state: dict[int, dict[str, Any]] = {
            int(index): dict(items) for index, items in saved["numbers"].items()
        }
        start = f"optimizers/{phase}/"
        for name, tensor in tensors.items():
            if name.startswith(start):
                index, key = name.removeprefix(start).split("/", 1)
                # Torch's own memory, aligned as that of an optimiser that was never stored; what is read from a file is not.
                state[int(index)][key] = tensor.clone()
        optimizer.load_state_dict(
            {
                "state": state,
                "param_groups": [_merged(*pair) for pair in zip(groups, saved["groups"], strict=True)],
            }
        )
        _match_layout(optimizer)


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a parameter group that JSON can hold."""
    kept: dict[str, Any] = {}
    for key, value in group.items():
        if isinstance(value, Tensor):
            kept[key] = value.item()
        elif value is None or isinstance(value, bool | int | float | str | list | tuple):
            kept[key] = value
    return kept


def _merged(group: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(group)
    for key, value in saved.items():
        if isinstance(group.get(key), tuple):
            merged[key] = tuple(value)
        elif isinstance(group.get(key), Tensor):
            merged[key] = torch.as_tensor(value, dtype=group[key].dtype, device=group[key].device)
        else:
            merged[key] = value
    return merged


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their parameter.

    A file holds tensors in contiguous order, while the moments of a channels_last parameter are
    channels_last; fused kernels walk over both in memory order.
    """
    for parameter, entries in optimizer.state.items():
        for key, value in entries.items():
            if (
                isinstance(value, Tensor)
                and value.shape == parameter.shape
                and value.stride() != parameter.stride()
            ):
                entries[key] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(
                    value
                )
