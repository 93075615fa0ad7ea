"""What a row of the table behind a cINN costs, part by part: `OMP_NUM_THREADS=1 python benchmarks/studies/codes.py`.

A row is a patch, the posterior of its code, and the code of the image that g estimates from the layer's activation. Times are
medians of processor time for 32 patches of 128 x 128 pixels, with the bundled parts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from layer_parts import layer_parts

from invkit.data.patches import PatchSampler
from invkit.denoisers.loaded import AT_ONCE
from invkit.parts.layer import BATCH
from invkit.sampling.base import estimate_image

__all__ = ["main"]

T = TypeVar("T")


@torch.no_grad()
def main() -> None:
    """Print the table as Markdown, one row a part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    request, found = layer_parts(asked.model, asked.layer)
    vae, split, config = request.vae, request.split, request.config
    sampler = PatchSampler(request.slices.part("train"), vae.vae.patch, dose=config.dose, seed=0)
    size = (vae.vae.patch, vae.vae.patch)
    times: dict[str, list[float]] = {}

    def timed(name: str, act: Callable[[], T]) -> T:
        begun = time.process_time()
        result = act()
        times.setdefault(name, []).append(time.process_time() - begun)
        return result

    for step in range(asked.rounds):
        x = timed("cutting patches, noise", lambda at=step: sampler.batch(at, BATCH).x)
        timed("E(x)", lambda of=x: vae.vae.encode(of))
        z = timed("Phi(x)", lambda of=x: [split.phi(part) for part in torch.split(of, AT_ONCE)])
        estimate = timed(
            "g(z)",
            lambda of=z: torch.cat([estimate_image(split, found.regressor, part, size) for part in of]),
        )
        timed("E(g(z))", lambda of=estimate: vae.vae.encode(of))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"| part, {BATCH} patches | processor time | share |\n|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {1e3 * seconds:.0f} ms | {seconds / sum(medians.values()):.0%} |")


if __name__ == "__main__":
    main()
