"""The flows that flow_study.py holds against each other: ours in several settings, and zuko's of about equal size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.metadata import version

import torch
import zuko
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import MonotonicRQSTransform

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable
from invkit.training.seeds import seeded

__all__ = ["Rival", "flows", "masks", "real_nvp", "together", "unmixed"]

Maker = Callable[[CinnConfig, CodeTable], nn.Module]
ZUKO = f"zuko {version('zuko')}"
COUPLINGS = 8  # as many as the four double couplings of our default
BINS = 8
SPLINE = [(BINS,), (BINS,), (BINS - 1,)]


class Rival(nn.Module):
    """A zuko flow that trains by `CinnTask` as ours do: codes and conditions standardised, NLL in nats per dimension.

    Args:
        flow: of d codes given conditions.
        config: of its training; sizes are not read.
        table: what codes and conditions are standardised by.
        start: a flow without blocks whose closed-form start comes first and stays as it is.
    """

    whitening = None  # nothing that CinnTask would move at a tenth of the rate
    initialised = True

    def __init__(
        self, flow: nn.Module, config: CinnConfig, table: CodeTable, *, start: CINN | None = None
    ) -> None:
        super().__init__()
        self.flow, self.config = flow, config
        self.start = None if start is None else start.requires_grad_(False)
        flat = table.condition.flatten(1)
        spread = table.mean.var(0) + table.log_var.exp().mean(0)
        self.register_buffer("centre", table.mean.mean(0))
        self.register_buffer("scale", spread.sqrt())
        self.register_buffer("middle", flat.mean(0))
        self.register_buffer("width", flat.std(0).clamp(min=1e-5))

    def nll(self, z_bar: Tensor, condition: Tensor) -> Tensor:
        """Return -log p(z_bar | condition) / d, `(B,)`, nats per dimension, as `CINN.nll` does."""
        if self.start is None:
            v, log_det = (z_bar - self.centre) / self.scale, -self.scale.log().sum()
        else:
            v, log_det = self.start(z_bar, self.start.embed(condition))
        likely = self.flow((condition.flatten(1) - self.middle) / self.width).log_prob(v)
        return -(likely + log_det) / z_bar.shape[-1]


def unmixed(flow: CINN, *, reverse: bool = False) -> CINN:
    """Take the mixing out of a flow made with permutations, or reverse the order in its place, every time alike."""
    for block in flow.blocks:
        mixing = block.mixing
        order = torch.arange(len(mixing.order))
        order = order.flip(0) if reverse else order
        mixing.order.copy_(order)
        mixing.back.copy_(torch.argsort(order))
    return flow


def real_nvp(d: int, context: int, hidden: int, *, randmask: bool, seed: int = 0) -> nn.Module:
    """Return zuko's RealNVP with as many couplings as our default."""

    def build() -> nn.Module:
        flow: nn.Module = zuko.flows.RealNVP(
            d,
            context,
            transforms=COUPLINGS,
            randmask=randmask,
            hidden_features=(hidden, hidden),
            activation=nn.SiLU,
        )
        return flow

    return seeded(build, seed)


def spline_couplings(d: int, context: int, hidden: int, couplings: int, *, seed: int = 0) -> nn.Module:
    """Return rational-quadratic spline couplings with random masks, of zuko's parts (NSF, Durkan et al. 2019)."""

    def coupling() -> nn.Module:
        made: nn.Module = GeneralCouplingTransform(
            d,
            context,
            mask=torch.randperm(d) % 2 == 0,
            univariate=MonotonicRQSTransform,
            shapes=SPLINE,
            hidden_features=(hidden, hidden),
            activation=nn.SiLU,
        )
        return made

    transforms = seeded(lambda: [coupling() for _ in range(couplings)], seed)
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(d), torch.ones(d), buffer=True
    )
    return zuko.lazy.Flow(transforms, base)


def together(masks: Iterable[Tensor]) -> float:
    """Return the share of pairs of dimensions that stand on different sides of at least one mask, `(d,)` booleans each."""
    met: Tensor | None = None
    for mask in masks:
        apart = mask[:, None] != mask[None, :]
        met = apart if met is None else met | apart
    if met is None:
        return 0.0
    d = len(met)
    return float(met.sum()) / (d * (d - 1))


def masks(flow: nn.Module) -> list[Tensor]:
    """Return which dimensions stand on the first side of each split, in the order of the flow's input."""
    if isinstance(flow, Rival):
        return masks(flow.flow)
    if not isinstance(flow, CINN):
        return [transform.mask for transform in flow.transform.transforms]
    found, where = [], torch.arange(flow.config.d)
    for block in flow.blocks:
        side = torch.zeros(flow.config.d, dtype=torch.bool)
        side[where[: flow.config.d // 2]] = True
        found.append(side)
        where = where[block.mixing.order]
    return found


def _ours(**changes: object) -> Maker:
    return lambda config, table: CINN(config.model_copy(update=changes), table.condition_shape)


def _unmixed(*, reverse: bool = False, **changes: object) -> Maker:
    return lambda config, table: unmixed(_ours(**changes)(config, table), reverse=reverse)


def _rival(make: Callable[[int, int], nn.Module], *, after: bool = False) -> Maker:
    def made(config: CinnConfig, table: CodeTable) -> nn.Module:
        start = None
        if after:
            start = CINN(config.model_copy(update={"blocks": 0}), table.condition_shape)
            start.initialise(table)
        context = math.prod(table.condition_shape)
        return Rival(make(table.d, context), config, table, start=start)

    return made


def flows() -> dict[str, tuple[str, Maker]]:
    """Return every row: its name, what it is, and what makes it from the default settings and the training rows."""
    published = {
        "blocks": 20,
        "hidden": 1024,
        "depth": 2,
        "separate": True,
        "activation": "leaky_relu",
        "clamp": 1.0,
        "affine": False,
        "context": 128,
    }
    return {
        "default": ("our default: permutation, 4 blocks, hidden 96", _ours()),
        "rate-3e-4": ("default, rate 3e-4 in place of 1e-3", _ours(lr=3e-4)),
        "rate-1e-4": ("default, rate 1e-4", _ours(lr=1e-4)),
        "rate-3e-5": ("default, rate 3e-5", _ours(lr=3e-5)),
        "rotation": ("default, rotation in place of permutation", _ours(mixing="rotation")),
        "unmixed": ("default, half-splits without mixing", _unmixed()),
        "blocks-0": ("default, no coupling: the closed-form start, trained", _ours(blocks=0)),
        "blocks-2": ("default, 2 blocks", _ours(blocks=2)),
        "blocks-8": ("default, 8 blocks", _ours(blocks=8)),
        "hidden-64": ("default, hidden 64", _ours(hidden=64)),
        "hidden-256": ("default, hidden 256", _ours(hidden=256)),
        "plain": ("no closed-form start, permutation", _ours(affine=False)),
        "plain-rotation": ("no closed-form start, rotation", _ours(affine=False, mixing="rotation")),
        "plain-unmixed": ("no closed-form start, half-splits without mixing", _unmixed(affine=False)),
        "plain-reversed": (
            "no closed-form start, order reversed between blocks",
            _unmixed(reverse=True, affine=False),
        ),
        "zuko-random": (
            f"{ZUKO} RealNVP, random masks",
            _rival(lambda d, k: real_nvp(d, k, 128, randmask=True)),
        ),
        "zuko-fixed": (
            f"{ZUKO} RealNVP, alternating masks",
            _rival(lambda d, k: real_nvp(d, k, 128, randmask=False)),
        ),
        "zuko-spline": (
            f"{ZUKO} spline couplings, random masks",
            _rival(lambda d, k: spline_couplings(d, k, 72, 4)),
        ),
        "start-random": (
            f"our start, frozen, then {ZUKO} RealNVP, random masks",
            _rival(lambda d, k: real_nvp(d, k, 128, randmask=True), after=True),
        ),
        "start-fixed": (
            f"our start, frozen, then {ZUKO} RealNVP, alternating masks",
            _rival(lambda d, k: real_nvp(d, k, 128, randmask=False), after=True),
        ),
        "start-spline": (
            f"our start, frozen, then {ZUKO} spline couplings",
            _rival(lambda d, k: spline_couplings(d, k, 72, 4), after=True),
        ),
        "paper": ("the size of Rombach 2020 (20 blocks, hidden 1024), d as it is", _ours(**published)),
    }
