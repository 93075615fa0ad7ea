"""Refinement onto the fiber against torch.optim.LBFGS: seconds for each sample to the same epsilon, on the same images.

    OMP_NUM_THREADS=1 python benchmarks/refine.py [--model yang2018] [--layer 3] [--size 128] [--samples 4] [--rounds 3]

Both start from x plus fresh noise of 30 HU, alternate in one process with one thread, and are judged by Phi itself in full
precision: a time is that of a round over the samples that reached epsilon in it. L-BFGS minimises the mean square of
(Phi(x) - z) / s, s the distance at the start, over each image by itself, with torch's own strong Wolfe line search, and stops
when epsilon is reached or five steps bring no gain. Times are the processor's, which tell the same on a machine that is busy
with other things. One JSON object is printed; `ratio` is L-BFGS's time over ours.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from timing import Row
from torch import Tensor

import invkit
from invkit.data.images import default_image
from invkit.fiber.distance import activation_distance
from invkit.fiber.refine import refine
from invkit.fiber.tangent import Tangent
from invkit.split.split import Split

NOISE = 30.0
BUDGET = 2_000  # evaluations of L-BFGS, for one image
TOLERANCE = 1.001  # of epsilon: batches of other sizes round otherwise
PATIENCE = 5  # steps of L-BFGS without any gain


def lbfgs(split: Split, proposal: Tensor, z: Tensor, epsilon: float, history: int) -> tuple[Tensor, int]:
    """Return the refined image and the evaluations of Phi and its gradient it took."""
    start = float(activation_distance(split.phi(proposal), z))
    # In units of the start the first step has the right order of magnitude.
    move = torch.zeros_like(proposal, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [move], lr=1.0, max_iter=1, history_size=history, line_search_fn="strong_wolfe", tolerance_grad=0
    )
    used = 0
    best = proposal
    reached = start

    def closure() -> Tensor:
        nonlocal used, best, reached
        optimiser.zero_grad()
        at = proposal + NOISE * move
        loss = ((split.phi_grad(at) - z) / start).square().mean()
        loss.backward()
        used += 1
        distance = start * float(loss.detach()) ** 0.5
        if distance < reached:
            best, reached = at.detach(), distance
        return loss

    idle = 0
    while used < BUDGET and reached > epsilon and idle < PATIENCE:
        before = reached
        optimiser.step(closure)
        idle = idle + 1 if reached == before else 0
    return best, used


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=1e-2, help="of the distance at the start")
    parser.add_argument("--history", type=int, default=20)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure, and print one JSON object."""
    torch.set_num_threads(1)
    print(json.dumps(measure(parsed()), indent=1))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    split = Split(invkit.load(options.model), options.layer)
    x = default_image()[..., : options.size, : options.size]
    z = split.phi(x)
    if not isinstance(z, Tensor):
        raise SystemExit("this benchmark takes a layer with one activation")
    tangent = Tangent(split.phi_grad)  # as in an analysis, where all batches of samples share it
    times: dict[str, list[float]] = {"ours": [], "lbfgs": []}
    reached: dict[str, list[float]] = {"ours": [], "lbfgs": []}
    evaluations: list[int] = []
    products: list[int] = []
    spread: dict[str, list[float]] = {"ours": [], "lbfgs": []}
    for number in range(options.rounds + 1):
        random = torch.Generator().manual_seed(number)
        proposals = x + NOISE * torch.randn(options.samples, *x.shape[1:], generator=random)
        epsilon = options.epsilon * float(activation_distance(split.phi(proposals), z).mean())
        begun = time.process_time()
        ours = refine(split.phi, split.phi_grad, proposals, z, epsilon, tangent=tangent)
        middle = time.process_time()
        found = [lbfgs(split, one[None], z, epsilon, options.history) for one in proposals]
        done = time.process_time()
        if number == 0:
            continue  # what torch sets up once
        theirs = torch.cat([image for image, _ in found])
        for name, images, spent in (("ours", ours.images, middle - begun), ("lbfgs", theirs, done - middle)):
            errors = activation_distance(split.phi(images), z) / epsilon
            reached[name] += errors.tolist()
            times[name].append(spent / max(1, int((errors <= TOLERANCE).sum())))
            spread[name].append(images.std(0).square().mean().sqrt().item())
        evaluations += [used for _, used in found]
        products += ours.certificates.products.tolist()
    ratios = [theirs / own for theirs, own in zip(times["lbfgs"], times["ours"], strict=True)]
    return {
        "id": "refine",
        "model": options.model,
        "layer": options.layer,
        "size": options.size,
        "epsilon": options.epsilon,
        "ours_cpu_seconds_per_sample": statistics.median(times["ours"]),
        "lbfgs_cpu_seconds_per_sample": statistics.median(times["lbfgs"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "ours_reached": sum(value <= TOLERANCE for value in reached["ours"]),
        "lbfgs_reached": sum(value <= TOLERANCE for value in reached["lbfgs"]),
        "of": len(reached["ours"]),
        "ours_products": statistics.median(products),
        "lbfgs_evaluations": statistics.median(evaluations),
        "ours_spread_hu": statistics.median(spread["ours"]),
        "lbfgs_spread_hu": statistics.median(spread["lbfgs"]),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def rows() -> list[Row]:
    """Return the row of `bench.py`: four samples of 128 x 128 pixels at layer 3 of yang2018, one thread, processor time."""
    torch.set_num_threads(1)
    found = measure(parsed(["--rounds", "3"]))
    if found["ours_reached"] != found["of"]:
        raise RuntimeError(f"only {found['ours_reached']} of {found['of']} samples were refined to epsilon")
    ours, theirs = (found[f"{name}_cpu_seconds_per_sample"] for name in ("ours", "lbfgs"))
    return [
        Row(
            "refine",
            "a sample refined onto the fiber",
            ours,
            f"torch {torch.__version__} LBFGS",
            theirs,
            found["ratio"],
            1.0,
        )
    ]


if __name__ == "__main__":
    main()
