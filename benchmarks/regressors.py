"""How well regressors of other sizes and schedules know the image: `OMP_NUM_THREADS=1 python benchmarks/regressors.py --layer 8`.

Each variant is a training of g on the built-in phantoms, the settings of `default` with some changed. RMSE and the NLL of codes are
of validation patches, after half the steps and at the end: both are ends of whole trainings, so their difference is what doubling
the steps gains.
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

from invkit.pipeline.held_out import learning_curve
from invkit.pipeline.layer_config import LayerConfig
from invkit.pipeline.train_layer import LayerTraining
from invkit.representation.regressor import RegressorConfig

__all__ = ["main"]


def variant(text: str) -> dict[str, Any]:
    """Return the fields of a variant, `steps=800,batch=16`."""
    return tomllib.loads(text.replace(",", "\n"))


def row(model: str, layer: str, changes: dict[str, Any], folder: Path) -> list[str]:
    """Train one variant; return the cells of its row."""
    config = LayerConfig(regressor=RegressorConfig(**changes))
    request, _ = layer_request(model, layer, config)
    begun = time.process_time()
    LayerTraining(request, folder, None).regressor()
    seconds = time.process_time() - begun
    history = folder / "regressor" / "metrics.jsonl"
    errors, codes = (dict(learning_curve(history, name)) for name in ("rmse_hu", "code_nll"))
    end = max(errors)
    looks = [end // 2, end]
    name = ", ".join(f"{key} {value}" for key, value in changes.items()) or "as shipped"
    return [
        name,
        f"{end:,}",
        f"{seconds:.0f} s",
        *(f"{errors[look]:.2f} HU" for look in looks),
        *(f"{codes[look]:.4f}" for look in looks),
    ]


def main() -> None:
    """Print the table as Markdown, one row a variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="8")
    parser.add_argument(
        "--variant", action="append", type=variant, help="changed fields, e.g. steps=800,batch=16"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| g | steps | processor time | RMSE, half the steps | all | NLL of the code, half | all |\n|---|---|---|---|---|---|---|"
    )
    for changes in asked.variant or [{}]:
        with tempfile.TemporaryDirectory() as folder:
            print("| " + " | ".join(row(asked.model, asked.layer, changes, Path(folder))) + " |", flush=True)


if __name__ == "__main__":
    main()
