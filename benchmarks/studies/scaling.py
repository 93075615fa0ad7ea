"""The plan for 1, 8 and 64 GPUs: what the run `paper` computes and sends, counted; how long that takes, by assumption.

python benchmarks/studies/scaling.py [--patches-per-second RATE]

Operations of each training step are counted on its real networks, on one or two patches, forwards and backwards. Nothing is
timed, so it does not matter how busy the machine is. Prints the tables of docs/scaling.md.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from invkit.data.patches import PatchBatch, PatchSampler
from invkit.data.slices import load_slices
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.task import DenoiserTask
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.plugins.manager import default_host
from invkit.regressor.regressor import Regressor, RegressorConfig
from invkit.split.split import Split
from invkit.training.processes.distributed import Shard
from invkit.vae.train import VaeTask
from invkit.vae.vae import VAE, VaeConfig, build_critic
from invkit.workflow.config import RunConfig
from invkit.workflow.file import read_config

# Assumptions, of an A100 with 80 GB in a machine of 8, and of a fast network between machines.
PEAK = 312e12  # operations per second in bf16
PEAK_FP32 = 156e12  # TF32
REACHED = 0.35  # of the peak
MEMORY = 1.5e12  # bytes per second
LAUNCH = 6e-6  # seconds for each kernel that is started from Python
TRAFFIC = (
    9  # times that a step reads or writes each parameter: weights twice, gradient twice, Adam five times
)
WITHIN, BETWEEN = 200e9, 20e9  # bytes per second and GPU: NVLink, network
LATENCY = 50e-6  # seconds for each message
CORES = 8  # for each GPU, which cut patches
VGG = 39.2e9 * (1 / 224) ** 2  # VGG-19's convolutions, operations per pixel, one pass
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Training:
    """One training: what a step costs.

    Args:
        name: for people.
        steps: of the training.
        batch: patches or codes of a step.
        parameters: that are trained.
        flops: of one patch or code, all phases of a step.
        kernels: of a step, all phases; as many for any batch.
        pixels: of a patch, which has to be cut; 0 for codes.
        messages: between processes in a step.
        fp32: whether it runs in full precision.
    """

    name: str
    steps: int
    batch: int
    parameters: int
    flops: float
    kernels: int
    pixels: int
    messages: int
    fp32: bool = False

    def seconds(self, gpus: int, rate: float) -> float:
        """Return the time of a step, seconds."""
        if self.batch % gpus:
            return math.nan
        own = self.batch / gpus
        reached = REACHED * (PEAK_FP32 if self.fp32 else PEAK)
        arithmetic = own * self.flops / reached + TRAFFIC * 4 * self.parameters / MEMORY
        cutting = own / (rate * CORES) * self.pixels / 128**2
        return max(arithmetic, self.kernels * LAUNCH) + cutting + self.sending(gpus)

    def sending(self, gpus: int) -> float:
        """Return the time of a step's messages, seconds."""
        if gpus == 1:
            return 0.0
        speed = WITHIN if gpus <= 8 else BETWEEN
        return 2 * (gpus - 1) / gpus * 4 * self.parameters / speed + self.messages * LATENCY

    def hours(self, gpus: int, rate: float) -> float:
        """Return the time of the training, hours."""
        return self.steps * self.seconds(gpus, rate) / 3600


class Counter(TorchDispatchMode):
    """Counts operations, and what is started on the device; views start nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.kernels = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        self.kernels += not func.is_view
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


class Random:
    """Patches of noise: what is in them does not change what is computed."""

    def __init__(self, size: int) -> None:
        self.size, self.dose, self.seed = size, 0.25, 0
        self.slices = load_slices(["phantoms:14"])
        self.template = PatchSampler(self.slices, 16).batch(0, 1)

    def batch(self, step: int, n: int, part: slice | None = None) -> PatchBatch:
        """Return as many patches as the part has."""
        count = len(range(n)[part or slice(n)])
        x = torch.randn(count, 1, self.size, self.size) * 100
        return replace(self.template, x=x, y=x.clone(), clean=None)


def counted(work: Callable[[], Tensor], parameters: Sequence[Tensor]) -> tuple[float, int]:
    """Return operations and kernels of a loss and its gradient."""
    with Counter() as counter:
        torch.autograd.grad(work(), list(parameters), allow_unused=True)
    return float(counter.flops), counter.kernels


def size(parameters: Sequence[Tensor]) -> int:
    """Return how many numbers they hold."""
    return sum(parameter.numel() for parameter in parameters)


def of_denoiser(name: str, config: RunConfig) -> Training:
    """Count a denoiser's training; its perceptual term by VGG-19's size, since the weights are the user's to bring."""
    spec = default_host().denoiser(name)[0]
    assert spec.recipe is not None
    recipe = config.denoisers[name].recipe.applied(spec.recipe, model=name)
    perceptual = recipe.perceptual is not None
    plain = recipe.changed({"perceptual": None}) if perceptual else recipe
    sampler = Random(plain.patch)
    task = DenoiserTask(spec.build(), spec.preprocessing, plain, sampler, sampler, seed=0)  # type: ignore[arg-type]
    shard = Shard(0, plain.batch // 2)
    flops, kernels = 0.0, 0
    for phase in task.phases(plain.mse_steps):
        trained = [p for group in task.optimizers[phase].param_groups for p in group["params"]]
        found = counted(lambda phase=phase: task.loss(phase, plain.mse_steps, shard)[0], trained)  # type: ignore[misc]
        flops, kernels = flops + found[0] / 2, kernels + found[1]
    if perceptual:
        flops, kernels = flops + 3 * VGG * plain.patch**2, kernels + 3 * 40
    phases = task.phases(plain.mse_steps)
    per_phase = {
        phase: size([p for group in task.optimizers[phase].param_groups for p in group["params"]])
        for phase in set(phases)
    }
    sent = sum(per_phase[phase] for phase in phases)
    return Training(
        name, plain.steps, plain.batch, sent, flops, kernels, plain.patch**2 * len(phases), len(phases)
    )


def of_vae(config: VaeConfig) -> Training:
    """Count the VAE-WGAN's training with its critic."""
    vae, critic = VAE(config), build_critic(config)
    task = VaeTask(vae, critic, Random(config.patch), Random(config.patch), domain="low", seed=0)
    step, shard = max(config.critic_begins, 0), Shard(0, config.batch)
    flops, kernels, sent = 0.0, 0, 0
    for phase, module in (("critic", critic), ("generator", vae)):
        trained = [p for p in module.parameters() if p.requires_grad]
        found = counted(lambda phase=phase: task.loss(phase, step, shard)[0], trained)  # type: ignore[misc]
        flops, kernels, sent = flops + found[0], kernels + found[1], sent + size(trained)
    # The mean squared error, band energies and the two gradients of the adaptive weight are told as well.
    return Training("VAE", config.steps, config.batch, sent, flops, kernels, config.patch**2, 2 + 9)


def of_regressor(config: RegressorConfig, split: Split) -> Training:
    """Count the training of g's network at a layer, Phi included: for high-dose images, where a descent does not get far."""
    x = torch.randn(1, 1, config.patch, config.patch) * 100
    regressor = Regressor(split.phi(x), (config.patch, config.patch), config)
    trained = [p for p in regressor.parameters() if p.requires_grad]

    def loss() -> Tensor:
        return (regressor(split.phi(x), (config.patch, config.patch)) - x).square().mean()

    flops, kernels = counted(loss, trained)
    return Training(
        "regressor", config.steps, config.batch, size(trained), flops, kernels, config.patch**2, 1
    )


def of_flow(config: CinnConfig) -> Training:
    """Count the training of t on a table of codes."""
    cinn = CINN(config, (2 * config.d,))
    rows = 8
    codes, condition = torch.randn(rows, config.d), torch.randn(rows, 2 * config.d)
    trained = [p for p in cinn.parameters() if p.requires_grad]
    flops, kernels = counted(lambda: cinn.nll(codes, condition).mean(), trained)
    return Training("flow", config.steps, config.batch, size(trained), flops / rows, kernels, 0, 1, fp32=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: float, digits: str = ".3g") -> str:
    """Return a figure, or why there is none."""
    return "batch does not divide" if math.isnan(value) else format(value, digits)


def scheduled(waves: Sequence[Sequence[float]], gpus: int) -> float:
    """Return the hours of waves of tasks, each dealt out in turn; `invkit run` hands each to whoever is free."""
    return sum(max(sum(wave[rank::gpus]) for rank in range(gpus)) for wave in waves)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patches-per-second", type=float, default=8000.0, help="128 x 128 pairs, one core")
    rate = parser.parse_args().patches_per_second
    torch.set_num_threads(1)
    config = read_config("paper", ['data=["phantoms:14"]'])
    denoisers = [of_denoiser(name, config) for name in config.denoisers]
    vae, flow = of_vae(config.vae), of_flow(config.cinn)
    first = next(iter(config.denoisers))
    split = Split(
        load_denoiser(default_host().denoiser(first)[0], untrained_seed=0), config.denoisers[first].layers[-1]
    )
    regressor = of_regressor(config.regressor, split)
    trainings = [*denoisers, vae, regressor, flow]
    print(
        table(
            (
                "training",
                "steps",
                "batch",
                "trained parameters",
                "Gflop per patch",
                "kernels a step",
                "gradients a step, MB",
            ),
            [
                (
                    t.name,
                    f"{t.steps:,}",
                    t.batch,
                    f"{t.parameters:,}",
                    f"{t.flops / 1e9:.3g}",
                    f"{t.kernels:,}",
                    f"{4e-6 * t.parameters:.3g}",
                )
                for t in trainings
            ],
        )
    )
    print()
    print(
        table(
            (
                "training",
                *(f"ms per step, {n} GPU" for n in GPUS),
                *(f"of it messages, {n}" for n in GPUS[1:]),
                *(f"hours, {n}" for n in GPUS),
            ),
            [
                (
                    t.name,
                    *(shown(1e3 * t.seconds(n, rate)) for n in GPUS),
                    *(shown(1e3 * t.sending(n)) for n in GPUS[1:]),
                    *(shown(t.hours(n, rate)) for n in GPUS),
                )
                for t in trainings
            ],
        )
    )
    layers = sum(len(chosen.layers) for chosen in config.denoisers.values()) + 2
    domains = len(config.domains)
    low, high = flow.hours(1, rate), regressor.hours(1, rate) + flow.hours(1, rate)
    waves = [
        [*(t.hours(1, rate) for t in denoisers), *[vae.hours(1, rate)] * domains],
        [low if domain == "low" else high for domain in config.domains for _ in range(layers)],
    ]
    print()
    print(f"{layers} cINNs in each of {domains} domains; hours of `invkit run paper`, one process a GPU:")
    print(table([f"{n} GPU" for n in GPUS], [[shown(scheduled(waves, n)) for n in GPUS]]))
    drawn = (
        sum(t.steps * t.batch * t.pixels for t in (*denoisers, vae))
        + (domains - 1) * vae.steps * vae.batch * vae.pixels
    )
    drawn += layers * config.domains.count("high") * regressor.steps * regressor.batch * regressor.pixels
    print(f"\npatch pairs that are cut: {drawn * 8 / 1e12:.3g} TB as float32")


if __name__ == "__main__":
    main()
