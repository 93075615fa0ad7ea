"""How well regressors know the image: `OMP_NUM_THREADS=1 python benchmarks/studies/regressors.py --layer 8 --variant stages=0`.

Each variant is a fit of g on the built-in phantoms, the settings of `default` with some changed; `stages=0` leaves it to a network
alone. RMSE and the NLL of codes are of validation patches, after half the stages or steps and at the end; both are ends of whole
fits, so their difference is what doubling them gains.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from layer_parts import layer_request

from invkit.parts.config import LayerConfig
from invkit.parts.layer import LayerTraining
from invkit.regressor.regressor import RegressorConfig

__all__ = ["main"]


def variant(text: str) -> dict[str, Any]:
    """Return the fields of a variant, `steps=800,batch=16`."""
    return tomllib.loads(text.replace(",", "\n"))


def row(model: str, layer: str, changes: dict[str, Any], folder: Path) -> list[str]:
    """Train one variant; return the cells of its row."""
    config = LayerConfig(regressor=RegressorConfig(**changes))
    request, _ = layer_request(model, layer, config)
    begun = time.process_time()
    found = LayerTraining(request, folder, None).regressor()
    seconds = time.process_time() - begun
    errors, codes = (dict(found.learning[name]) for name in ("rmse_hu", "code_nll"))
    name = ", ".join(f"{key} {value}" for key, value in changes.items()) or "as shipped"
    kind = "stages" if found.regressor.net is None else "steps"
    return [
        name,
        f"{max(errors):,} {kind}",
        f"{seconds:.0f} s",
        *(f"{errors[look]:.2f} HU" for look in halves(errors)),
        *(f"{codes[look]:.4f}" for look in halves(codes)),
    ]


def halves(curve: dict[int, float]) -> tuple[int, int]:
    """Return the last look of the first half, and the last."""
    return max(look for look in curve if 2 * look <= max(curve)), max(curve)


def main() -> None:
    """Print the table as Markdown, one row a variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="8")
    parser.add_argument(
        "--variant", action="append", type=variant, help="changed fields, e.g. stages=0,steps=800"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| g | fitted by | processor time | RMSE, half of them | all | NLL of the code, half | all |\n|---|---|---|---|---|---|---|"
    )
    for changes in asked.variant or [{}]:
        with tempfile.TemporaryDirectory() as folder:
            print("| " + " | ".join(row(asked.model, asked.layer, changes, Path(folder))) + " |", flush=True)


if __name__ == "__main__":
    main()
