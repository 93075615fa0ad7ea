"""What is done to any network before it is used: unwrapped, put to rest while it runs, fingerprinted."""

__all__ = ["StateSnapshot", "at_rest", "network_fingerprint", "unwrap"]

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from invkit.artifacts import fingerprint, state_fingerprint
from invkit.errors import DenoiserError

PLAIN = (bool, int, float, str, type(None))
QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")


def unwrap(module: Any, *, owner: str) -> nn.Module:
    """Return the network inside `DataParallel`, `DistributedDataParallel` and `torch.compile` wrappers.

    Raises:
        DenoiserError: it is no `nn.Module`, is TorchScript (which runs no hooks), quantised, or has unusable parameters.
    """
    while True:
        if not isinstance(module, nn.Module):
            raise DenoiserError(f"{owner} needs a torch.nn.Module, got {type(module).__name__}")
        if isinstance(module, nn.DataParallel | DistributedDataParallel):
            module = module.module
        elif "_orig_mod" in module._modules:
            module = module._orig_mod
        else:
            break
    if isinstance(module, torch.jit.ScriptModule):
        raise DenoiserError(
            f"{owner} is a TorchScript module ({type(module).__name__}). TorchScript does not support hooks, so it "
            "cannot be split; give the nn.Module it was made from"
        )
    kept = [*module.named_parameters(), *module.named_buffers()]
    packed = [name for name, tensor in kept if tensor.is_quantized] or [
        name or type(part).__name__
        for name, part in module.named_modules()
        if type(part).__module__.startswith(QUANTISED)
    ]
    if packed:
        raise DenoiserError(
            f"{owner} is quantised ({', '.join(packed[:5])}), so no gradient passes it and its weights cannot be compared; give "
            "the network in floating numbers that it was made from"
        )
    empty = [name for name, tensor in kept if tensor.is_meta]
    if empty:
        raise DenoiserError(
            f"{owner} has no numbers yet: {', '.join(empty[:5])} lie on the device meta. Call network.to_empty(device='cpu') and "
            "load its weights first"
        )
    lazy = [name for name, tensor in module.named_parameters() if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise DenoiserError(
            f"{owner} has parameters without a shape yet ({', '.join(lazy[:5])}): run the network once on an "
            "image first"
        )
    broken = [name for name, tensor in module.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise DenoiserError(f"{owner} has parameters that are not finite: {', '.join(broken[:5])}")
    return module


@contextlib.contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Keep a network in eval mode, parameters without gradient, no autocast, no compiled code; then undo it.

    So a user's module is left as it was found, and a training mode that someone set meanwhile has no effect.
    Compiled parts run as plain Python, because compiled code may skip hooks; attention runs without its
    fast path, because that skips its submodules and rounds otherwise.
    """
    training = [module for module in network.modules() if module.training]
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    devices = {tensor.device.type for tensor in network.parameters()} or {"cpu"}
    compiled = any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in network.modules())
    attention = any(isinstance(m, nn.MultiheadAttention | nn.TransformerEncoder) for m in network.modules())
    with contextlib.ExitStack() as stack:
        for device in devices - {"meta"}:
            stack.enter_context(torch.autocast(device, enabled=False))
        if compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if attention and torch.backends.mha.get_fastpath_enabled():
            torch.backends.mha.set_fastpath_enabled(False)
            stack.callback(torch.backends.mha.set_fastpath_enabled, True)
        try:
            for module in training:
                module.training = False
            for parameter in trainable:
                # Not `requires_grad_`, which torch.func forbids inside its transforms.
                parameter.requires_grad = False
            yield
        finally:
            for module in training:
                module.training = True
            for parameter in trainable:
                parameter.requires_grad = True


class StateSnapshot:
    """What a network holds at one time: parameters and buffers, and its plain attributes.

    Args:
        network: the network; its tensors are copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._tensors = {
            name: (tensor, tensor.detach().clone()) for name, tensor in _tensors_of(network) if tensor.numel()
        }
        self._plain = [(module, _plain(module)) for module in network.modules()]

    def changed(self) -> list[str]:
        """Return which parameters and buffers have other numbers now, or are other tensors; new ones are none of these."""
        now = dict(_tensors_of(self.network))
        return [
            name
            for name, (_, before) in self._tensors.items()
            if name not in now or now[name].shape != before.shape or not torch.equal(now[name], before)
        ]

    def restore(self) -> None:
        """Put back what has changed."""
        modules = dict(self.network.named_modules())
        with torch.no_grad():
            for name, (tensor, before) in self._tensors.items():
                tensor.data = before if tensor.shape != before.shape else tensor.data.copy_(before)
                owner, _, leaf = name.rpartition(".")
                setattr(modules[owner], leaf, tensor)
        for module, attributes in self._plain:
            vars(module).update(attributes)


def _tensors_of(network: nn.Module) -> list[tuple[str, Tensor]]:
    return [*network.named_parameters(), *network.named_buffers()]


def network_fingerprint(network: nn.Module, described: Any) -> str:
    """Return one sha256 over a network's weights, its structure and `described` (JSON values).

    The structure is the class name of every module with its plain public attributes, such as stride or slope:
    two networks with equal weights, or with none, are still told apart.
    """
    structure = []
    loose: dict[str, Tensor] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        loose |= {f"{name}|{key}": value for key, value in _own(module).items() if isinstance(value, Tensor)}
        plain = {key: repr(value) for key, value in _plain(module).items()}
        structure.append([name, type(module).__qualname__, plain])
    states = [state_fingerprint(network.state_dict()), state_fingerprint(loose)]
    return fingerprint({"states": states, "structure": structure, "described": described})


def _own(module: nn.Module) -> dict[str, Any]:
    return {
        key: value for key, value in vars(module).items() if not key.startswith("_") and key != "training"
    }


def _plain(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in _own(module).items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return type(value) in PLAIN
