"""Images: drawing invariances, a step of the VAE, and convolutions, against the plain way to do the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from timing import Row, alternate, share, versus
from torch import Tensor, nn

from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import vae_preset
from invkit.plugins.manager import default_host
from invkit.training.engine import Shard
from invkit.training.precision import (
    Precision,
    autocast,
    faster_precision,
    precision_of_training,
    train_in,
)
from invkit.vae.train import VaeTask
from invkit.vae.trained import load_vae
from invkit.vae.vae import VAE, VaeConfig, build_critic

__all__ = ["rows"]

N = 250
CPU = torch.device("cpu")


def plain(module: nn.Module) -> nn.Module:
    """Return a network in the default memory format, as it is without any care."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.contiguous_format)
    return module


def invariances(flow: CINN, vae: VAE, *, batch: int, total: int) -> Callable[[], object]:
    """Return a way to draw `total` images given one condition, `batch` at a time."""
    condition = torch.randn(1, *flow.condition_shape, generator=torch.Generator().manual_seed(0))

    def run() -> object:
        last = None
        with torch.no_grad():
            for _ in range(0, total, batch):
                codes = flow.sample(condition, torch.randn(batch, 1, flow.config.d))[:, 0]
                last = [vae.decode(part) for part in torch.split(codes, 10)]
        return last

    return run


def drawing() -> list[Row]:
    """Time images per invariance: published sizes batched against one at a time, and our default against that."""
    published = LayerConfig.preset("eulig").cinn
    flow = CINN(published, (published.d,))
    vae = VAE(vae_preset("paper")).eval()
    slow_vae = plain(VAE(vae_preset("paper")).eval())
    one = invariances(flow, slow_vae, batch=1, total=1)  # type: ignore[arg-type]
    (bundled,) = [
        artifact.locate()
        for artifact in default_host().artifacts()
        if artifact.meta.get("default_for") == "low"
    ]
    default_vae = load_vae(bundled).vae
    default_flow = CINN(CinnConfig(), (2 * default_vae.d,))
    batched = invariances(flow, vae, batch=50, total=50)
    default = invariances(default_flow, default_vae, batch=N, total=N)
    ours_paper, ours_default, rival = alternate(batched, default, one, seconds=60)
    each = statistics.median(rival)
    name = "the published sizes, one at a time, in fp32"
    made = []
    for row, times, count in (
        ("invariance-paper", ours_paper, 50),
        ("invariance-default", ours_default, N),
    ):
        seconds = statistics.median(times) / count
        made.append(
            Row(row, f"one invariance, drawn {count} at a time", seconds, name, each, each / seconds, 1.0)
        )
    return made


def vae_step() -> Row:
    """Time a step of E and D as it is trained here against the same in fp32, default memory format, plain Adam.

    The limit are its convolutions alone, forward and backward, in the same precision and memory format.
    """
    sampler = PatchSampler(load_slices("phantoms:4"), 128)
    faster = faster_precision(CPU)
    steps, bare = [], []
    for shipped in (True, False):
        vae, critic = VAE(VaeConfig()), build_critic(VaeConfig())
        task = VaeTask(vae, critic, sampler, sampler, domain="low", seed=0)
        adam: torch.optim.Optimizer = task.optimizers["generator"]
        if not shipped:
            plain(vae)
            adam = torch.optim.Adam(vae.parameters(), lr=1e-4)
        precision: Precision = faster if shipped else "float32"

        def loss(task: VaeTask = task, precision: Precision = precision) -> Tensor:
            with precision_of_training():
                train_in(precision)
                return task.loss("generator", 0, Shard(0, 1))[0]

        def run(loss: Callable[[], Tensor] = loss, adam: torch.optim.Optimizer = adam) -> None:
            adam.zero_grad(set_to_none=True)
            loss().backward()
            adam.step()

        steps.append(run)
        bare.append(convolutions_of(vae, loss))
    rival = {"the same in fp32, default memory format, Adam not fused": steps[1]}
    what = f"a training step of E and D, 32 patches, in {faster}"
    row = versus("vae-step", what, steps[0], rival, target=1.0, seconds=30)
    return replace(row, share_of_limit=share(steps[0], bare[0], seconds=20))


def convolutions_of(network: nn.Module, run: Callable[[], object]) -> Callable[[], object]:
    """Return a pass through all convolutions of a network and back, each by itself, on what it is given in `run`."""
    seen: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def keep(module: nn.Conv2d, given: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((module, given[0].detach(), torch.ones_like(output)))

    handles = [
        module.register_forward_hook(keep) for module in network.modules() if isinstance(module, nn.Conv2d)
    ]
    run()
    for handle in handles:
        handle.remove()
    # Under autocast a convolution is given fp32 or bf16, and gives bf16.
    half = any(output.dtype == torch.bfloat16 for _, _, output in seen)

    def alone() -> None:
        for module, given, output in seen:
            x = given.requires_grad_()
            with autocast(CPU, half):
                made = module(x)
            torch.autograd.grad(made, (x, *module.parameters()), output)

    return alone


def convolutions() -> Row:
    """Time the decoder against its convolutions alone, on the same shapes, in the same precision and memory format."""
    vae = VAE(VaeConfig()).eval()
    codes = torch.randn(32, vae.d, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[nn.Conv2d, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, given, _: seen.append((m, given[0].detach())))
        for module in vae.decoder.modules()
        if isinstance(module, nn.Conv2d)
    ]

    @torch.no_grad()
    def stage() -> object:
        return vae.decoder(codes)

    stage()
    for handle in handles:
        handle.remove()

    @torch.no_grad()
    def alone() -> object:
        return [module(given) for module, given in seen]

    name = f"its {len(seen)} convolutions alone"
    row = versus("convolutions", "the decoder, 32 codes", stage, {name: alone}, target=None, seconds=15)
    return replace(row, share_of_limit=row.ratio)


def rows() -> list[Row]:
    """Return all rows of this file."""
    return [*drawing(), vae_step(), convolutions()]
