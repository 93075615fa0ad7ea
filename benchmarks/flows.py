"""Flows of the same size: a training step, and sampling, against FrEIA and zuko.

d = 128, 20 affine couplings with perceptrons of two hidden layers of 1024, conditions of 128 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import FrEIA.framework
import FrEIA.modules
import torch
import zuko
from timing import Row, share, versus
from torch import Tensor, nn

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig

__all__ = ["rows"]

D, HIDDEN, CONDITION, COUPLINGS, BATCH = 128, 1024, 128, 20, 128
FREIA, ZUKO = f"FrEIA {version('FrEIA')}", f"zuko {version('zuko')}"
RATE = 1e-4


def our_flow(**changes: object) -> CINN:
    """Return ours; a block is two couplings. The condition goes to the couplings as it is, as it does for the rivals."""
    config = CinnConfig(
        d=D,
        blocks=COUPLINGS // 2,
        hidden=HIDDEN,
        depth=1,
        activation="leaky_relu",
        affine=False,
        context=CONDITION,
    )
    flow = CINN(config.model_copy(update=changes), (CONDITION,))
    flow.embedder = nn.Identity()
    return started(flow)


def started(flow: nn.Module) -> nn.Module:
    """Return a flow whose last layers are not zero any more, as in training."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            if parameter.ndim == 2 and not parameter.any():
                parameter.normal_(0, 1e-3, generator=random)
    return flow


def freia_flow() -> nn.Module:
    """Return FrEIA's conditional GLOW couplings (two couplings each) with permutations, as its documentation builds them."""

    def perceptron(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, HIDDEN),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(),
            nn.Linear(HIDDEN, outputs),
        )

    flow = FrEIA.framework.SequenceINN(D)
    for index in range(COUPLINGS // 2):
        flow.append(
            FrEIA.modules.GLOWCouplingBlock, cond=0, cond_shape=(CONDITION,), subnet_constructor=perceptron
        )
        flow.append(FrEIA.modules.PermuteRandom, seed=index)
    return flow


def zuko_flow() -> nn.Module:
    """Return zuko's RealNVP with random masks; a transform is one coupling."""
    flow: nn.Module = zuko.flows.RealNVP(
        D,
        CONDITION,
        transforms=COUPLINGS,
        randmask=True,
        hidden_features=(HIDDEN, HIDDEN),
        activation=nn.LeakyReLU,
    )
    return flow


def step(parameters: list[nn.Parameter], loss: Callable[[], Tensor], *, fused: bool) -> Callable[[], None]:
    """Return one optimiser step with Adam."""
    adam = torch.optim.Adam(parameters, lr=RATE, fused=fused or None)

    def run() -> None:
        adam.zero_grad(set_to_none=True)
        loss().backward()
        adam.step()

    return run


def losses(codes: Tensor, condition: Tensor) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    """Return each rival with its negative log-likelihood of a batch."""
    freia, rival = freia_flow(), zuko_flow()

    def of_freia() -> Tensor:
        v, log_det = freia(codes, c=[condition])
        return (0.5 * v.square().sum(-1) - log_det).mean()

    def of_zuko() -> Tensor:
        return -rival(condition).log_prob(codes).mean()

    return {FREIA: (freia, of_freia), ZUKO: (rival, of_zuko)}


def products_of(flow: nn.Module, run: Callable[[], object]) -> Callable[[], None]:
    """Return the matrix products of a run alone, of the same shapes; where gradients are taken, those of the way back too."""
    sizes: list[tuple[int, int, int, int]] = []

    def note(module: nn.Linear, given: tuple[Tensor, ...], output: Tensor) -> None:
        back = int(output.requires_grad) + int(given[0].requires_grad)
        sizes.append((output[..., 0].numel(), module.in_features, module.out_features, back))

    handles = [
        module.register_forward_hook(note) for module in flow.modules() if isinstance(module, nn.Linear)
    ]
    run()
    for handle in handles:
        handle.remove()
    tensors = {
        (rows, inputs, outputs, back): (
            torch.randn(rows, inputs),
            torch.randn(outputs, inputs),
            torch.randn(rows, outputs),
        )
        for rows, inputs, outputs, back in sizes
    }

    @torch.no_grad()
    def alone() -> None:
        for size in sizes:
            x, weight, gradient = tensors[size]
            x @ weight.T
            if size[3] > 0:
                gradient.T @ x
            if size[3] > 1:
                gradient @ weight

    return alone


def training() -> list[Row]:
    """Time a training step, rivals with the same optimiser; for `-documented` with Adam as their documentation has it."""
    random = torch.Generator().manual_seed(1)
    codes, condition = (torch.randn(BATCH, n, generator=random) for n in (D, CONDITION))
    made = []
    for name, fused in (("flow-step", True), ("flow-step-documented", False)):
        flow = our_flow()

        def loss(flow: nn.Module = flow) -> Tensor:
            return flow.nll(codes, condition).mean()  # type: ignore[no-any-return, operator]

        ours = step(list(flow.parameters()), loss, fused=True)
        rivals = {
            rival: step(list(module.parameters()), of_rival, fused=fused)
            for rival, (module, of_rival) in losses(codes, condition).items()
        }
        what = f"a training step of {BATCH} codes" + ("" if fused else ", rivals with Adam not fused")
        row = versus(name, what, ours, rivals, target=1.0, seconds=30)
        made.append(replace(row, share_of_limit=share(ours, products_of(flow, loss))))
    return made


@torch.no_grad()
def samplers(n: int) -> dict[str, Callable[[], object]]:
    """Return the rivals' ways to draw n codes given one condition."""
    freia, rival = freia_flow(), zuko_flow()
    condition = torch.randn(1, CONDITION, generator=torch.Generator().manual_seed(2))

    def of_freia() -> object:
        with torch.no_grad():
            return freia(torch.randn(n, D), c=[condition.expand(n, -1)], rev=True)

    def of_zuko() -> object:
        with torch.no_grad():
            return rival(condition[0]).sample((n,))

    return {FREIA: of_freia, ZUKO: of_zuko}


def sampling() -> list[Row]:
    """Time drawing codes given one condition."""
    flow = our_flow()
    condition = torch.randn(1, CONDITION, generator=torch.Generator().manual_seed(2))
    made = []
    for name, n in (("sample-250", 250), ("sample-10000", 10_000)):

        def ours(n: int = n) -> object:
            with torch.no_grad():
                return flow.sample(condition, torch.randn(n, 1, D))

        seconds = 60 if n > 1000 else 15
        what = f"{n} codes given one condition"
        row = versus(name, what, ours, samplers(n), target=1.0, seconds=seconds)
        made.append(replace(row, share_of_limit=share(ours, products_of(flow, ours), seconds=seconds / 4)))
    return made


def double_coupling() -> Row:
    """Time the papers' double coupling with one network for scale and shift against one network for each."""
    random = torch.Generator().manual_seed(3)
    codes, condition = (torch.randn(BATCH, n, generator=random) for n in (D, CONDITION))
    ways = []
    for separate in (False, True):
        flow = our_flow(blocks=1, depth=2, separate=separate)
        parameters = list(flow.parameters())
        ways.append(step(parameters, lambda f=flow: f.nll(codes, condition).mean(), fused=True))
    rival = {"four networks, as published, ours": ways[1]}
    return versus("double-coupling", "a training step of one block", ways[0], rival, target=1.0, seconds=10)


def rows() -> list[Row]:
    """Return all rows of this file."""
    return [*training(), *sampling(), double_coupling()]
