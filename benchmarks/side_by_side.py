"""What it gains to simulate the noise of several slices at once, one thread each: `python benchmarks/side_by_side.py`.

In alternation: the noise of the same phantoms one after the other with all threads on each, and side by side. Prints the time for
one phantom, of all rounds.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from timing import alternate

from invkit.data.fields import dose_fields
from invkit.data.slices import load_slices
from invkit.training.processes.workers import side_by_side

__all__ = ["main"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--phantoms", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    slices = load_slices([f"phantoms:{options.phantoms}"]).simulated().slices

    def noise(index: int, _: None) -> None:
        dose_fields(slices[index], 0.25)

    alone, both = alternate(
        lambda: [noise(index, None) for index in range(len(slices))],
        lambda: list(side_by_side(len(slices), noise, None)),
        seconds=0,
        least=options.rounds,
    )
    for label, times in (("one after the other", alone), ("side by side", both)):
        found = [seconds / len(slices) for seconds in times]
        print(f"{label}: {median(found):.2f} s ({min(found):.2f} to {max(found):.2f} s)")
    print(
        f"ratio: {median(a / b for a, b in zip(alone, both, strict=True)):.2f}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
