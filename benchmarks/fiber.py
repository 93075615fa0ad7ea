"""What the fiber term does to a layer's cINN: fiber error, NLL and spread for weights 0, 1 and 10 at equal CPU time.

    OMP_NUM_THREADS=1 python benchmarks/fiber.py --seconds 60

VAE, regressor and scale are the bundled ones. Flows of all weights begin with the same closed-form start, train on the same rows
for the same CPU time on one thread, with as many steps as fit into it, and are judged on the same held-out patches and draws.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from layer_parts import layer_parts
from torch import Tensor

from invkit.flow.cinn import CINN
from invkit.flow.fiber import FiberTerm
from invkit.flow.table import CodeTable
from invkit.flow.train import CinnTask, nll_rows
from invkit.parts.fiber import FiberRows
from invkit.parts.layer import BATCH, LayerTraining
from invkit.training.engine import Shard
from invkit.training.seeds import generator

__all__ = ["main"]

WHOLE = Shard(0, 1)
MANY = 1_000_000
TIMED = 4  # steps that the number of steps is planned by


class Bench:
    """The parts that flows of all weights share.

    Args:
        model: name of a denoiser with a bundled cINN of the layer.
        layer: which.
        rows: training rows.
        held_out: rows that flows are judged on.
        patches: of these, those whose samples go through D and Phi.
        draws: samples for each.
    """

    def __init__(self, model: str, layer: str, *, rows: int, held_out: int, patches: int, draws: int) -> None:
        request, found = layer_parts(model, layer)
        split, vae = request.split, request.vae
        small = request.config.model_copy(update={"rows": rows, "held_out": held_out})
        with tempfile.TemporaryDirectory() as folder:
            training = LayerTraining(replace(request, config=small), Path(folder), None)
            self.train, self.test = (
                training._table(part, found.regressor).table for part in ("train", "test")
            )
        scale = found.meta["scale"]
        self.errors = {
            part: FiberRows(split, vae.vae, training.samplers[part], batch=BATCH, scale=scale, device="cpu")
            for part in ("train", "test")
        }
        self.vae, self.config = vae.vae, request.config.cinn
        self.patches, self.draws = patches, draws

    def task(self, weight: float, steps: int) -> CinnTask:
        """Return the training of one weight; only the test part is ever judged, so nothing is stopped by it."""
        config = self.config.model_copy(update={"fiber_weight": weight, "fiber_rows": 1, "steps": steps})
        term = FiberTerm(self.errors["train"], self.errors["test"], rows=1, seed=0)
        return CinnTask(CINN(config, self.train.condition_shape), self.train, self.test, seed=0, fiber=term)

    def trained(self, weight: float, seconds: float) -> tuple[CINN, int]:
        """Return a flow trained for so many seconds of CPU time, and its steps."""
        trial = self.task(weight, MANY)
        begun = time.process_time()
        for step in range(TIMED):
            _step(trial, step)
        steps = max(1, round(seconds * TIMED / (time.process_time() - begun)))
        task = self.task(weight, steps)
        for step in range(steps):
            _step(task, step)
        return task.cinn.eval(), steps

    @torch.no_grad()
    def judge(self, cinn: CINN) -> dict[str, float]:
        """Return held-out NLL, relative fiber error of samples and their spread in HU."""
        own: CodeTable = self.test.rows(slice(self.patches))
        v = torch.randn(self.draws, self.patches, cinn.config.d, generator=generator(0, "judged"))
        codes = cinn.sample(own.condition, v)
        errors = torch.cat([self.errors["test"](each, range(self.patches)) for each in codes])
        images = torch.stack([self.vae.decode(each) for each in codes])
        return {
            "nll": float(nll_rows(cinn, self.test, 0).double().mean()),
            "fiber_error": _root_mean_square(errors),
            "spread_hu": float(images.var(0).mean().sqrt()),
        }


def _step(task: CinnTask, step: int) -> None:
    optimiser = task.optimizers["main"]
    for group in optimiser.param_groups:
        group["lr"] = task.learning_rate("main", step)
    loss, _ = task.loss("main", step, WHOLE)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(task.cinn.parameters(), task.config.clip_norm)
    optimiser.step()


def _root_mean_square(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def main() -> None:
    """Print the table as Markdown, one row a weight."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--weights", type=float, nargs="+", default=[0, 1, 10])
    parser.add_argument("--seconds", type=float, default=60, help="of CPU time for each weight")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--patches", type=int, default=24)
    parser.add_argument("--draws", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(
        asked.model,
        asked.layer,
        rows=asked.rows,
        held_out=asked.held_out,
        patches=asked.patches,
        draws=asked.draws,
    )
    print("| λ | steps | fiber error | NLL, nats/dim | spread, HU |\n|---|---|---|---|---|", flush=True)
    start = bench.judge(bench.task(0, 1).cinn.eval())
    rows = [("start", 0, start)]
    for weight in asked.weights:
        flow, steps = bench.trained(weight, asked.seconds)
        rows.append((f"{weight:g}", steps, bench.judge(flow)))
    for name, steps, found in rows:
        print(
            f"| {name} | {steps} | {found['fiber_error']:.4f} | {found['nll']:.4f} | {found['spread_hu']:.2f} |"
        )


if __name__ == "__main__":
    main()
