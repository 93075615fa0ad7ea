"""The same network with its weights drawn anew, so that nothing it has learnt is left."""

__all__ = ["redrawn"]

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser
from invkit.errors import InvkitError
from invkit.training.seeds import derive_seed, generator, seeded

NO_WEIGHTS = "its network has no weights that could be redrawn"
ITERATIONS = 15  # of the power method, as torch begins spectral normalisation
PROBE = 64  # pixels a side of the image on which a parameter is tried


def redrawn(denoiser: LoadedDenoiser, *, seed: int = 0, number: int = 0) -> LoadedDenoiser:
    """Return a denoiser with the same network, freshly initialised.

    A network that a plugin builds is built again. One that was given as such is copied, and each of its modules initialises
    itself anew (`reset_parameters`); a weight that is normalised is drawn as it would be without that, and normalised again.

    Args:
        denoiser: whose architecture and preprocessing are taken.
        seed: of the weights.
        number: of the redraw; each has other weights.

    Raises:
        InvkitError: there are no weights, or one that f depends on is still the old one.
    """
    own = derive_seed(seed, "random phi", number) if number else derive_seed(seed, "random phi")
    if denoiser.weights_tag == "given":
        network = _reset(denoiser.network, own).to(denoiser.device)
    else:
        tagged = [weights.build for weights in denoiser.spec.weights if weights.tag == denoiser.weights_tag]
        build = next((build for build in tagged if build is not None), denoiser.spec.build)
        spec = replace(denoiser.spec, build=build)
        network = load_denoiser(spec, device=denoiser.device, untrained_seed=own).network
    random = LoadedDenoiser(
        denoiser.spec, network, weights_tag=f"random-{seed}", preprocessing=denoiser.preprocessing
    )
    if random.sha256 == denoiser.sha256:
        raise InvkitError(NO_WEIGHTS)
    kept = _kept(random, dict(denoiser.network.named_parameters()))
    if kept is not None:
        raise InvkitError(f"its parameter {kept} is the same after it was redrawn")
    return random


def _kept(random: LoadedDenoiser, before: dict[str, Tensor]) -> str | None:
    """Return the first parameter that is still the old one although f depends on it.

    One number everywhere, as in a normalisation that begins with 1 and 0, is no old weight: it is how such a parameter begins.
    """
    same = {
        name: value
        for name, value in random.network.named_parameters()
        if name in before
        and torch.equal(value, before[name].to(value))
        and not bool((value == value.flatten()[0]).all())
    }
    if not same:
        return None
    x = 100 * torch.randn(1, 1, PROBE, PROBE, generator=generator(0, "redrawn"))
    with torch.no_grad():
        expected = random(x)
        for name, value in same.items():
            old = value.clone()
            value.mul_(1.5).add_(0.1)
            changed = not torch.equal(random(x), expected)
            value.copy_(old)
            if changed:
                return name
    return None


def _reset(network: nn.Module, seed: int) -> nn.Module:
    # What weight normalisation computed last is no parameter, and torch refuses to copy it.
    computed = [
        value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)
    ]
    try:
        memo = {id(value): value.detach().clone() for value in computed}
        fresh = copy.deepcopy(network, memo).float().cpu().eval().requires_grad_(False)
    except Exception as error:
        raise InvkitError(f"its network cannot be copied: {type(error).__name__}") from None

    def draw() -> None:
        for name, module in fresh.named_modules():
            if list(module.parameters(recurse=False)) or parametrize.is_parametrized(module):
                _draw(name or "network", module)

    with torch.no_grad():
        seeded(draw, seed)
    return fresh


def _draw(name: str, module: nn.Module) -> None:
    """Initialise one module anew, in place."""
    if isinstance(module, parametrize.ParametrizationList):
        return  # drawn with the module whose weight it is
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if not callable(reset):
        raise InvkitError(f"its module {name} has no `reset_parameters`")
    if parametrize.is_parametrized(module):
        _draw_parametrised(module)
        return
    reset()
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            drawn, length = getattr(module, hook.name), getattr(module, f"{hook.name}_g")
            across = [dim for dim in range(drawn.dim()) if length.dim() == 0 or length.shape[dim] == 1]
            getattr(module, f"{hook.name}_v").copy_(drawn)
            length.copy_(drawn.square().sum(across, keepdim=length.dim() > 0).sqrt())
        elif isinstance(hook, SpectralNorm):
            # What is drawn is the normalised weight, which is none of its parameters.
            drawn = getattr(module, f"{hook.name}_orig")
            bound = 1 / math.sqrt(drawn[0].numel())
            drawn.uniform_(-bound, bound)
            for _ in range(ITERATIONS):
                hook.compute_weight(module, do_power_iteration=True)


def _draw_parametrised(module: nn.Module) -> None:
    """Draw what a parametrised weight is made from: the module without that draws the weight, which is then assigned."""
    kind: type[nn.Module] = type(module).__bases__[0]
    names = list(module.parametrizations)  # type: ignore[arg-type]
    plain = kind.__new__(kind)
    weights = {name: nn.Parameter(getattr(module, name).clone(), requires_grad=False) for name in names}
    vars(plain).update(vars(module) | {"_parameters": {**module._parameters, **weights}})
    plain.reset_parameters()  # type: ignore[operator]
    module.train()
    for name in names:
        setattr(module, name, weights[name].detach())
        for _ in range(ITERATIONS):
            getattr(module, name)  # in training mode, spectral normalisation takes a step of its power method
    module.eval()
