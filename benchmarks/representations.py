"""What a layer's certified spread is in each representation: `python benchmarks/representations.py --layer 3`.

Trains what is missing, draws for the default image, refines, and prints one row for each representation: what it keeps of held-out
patches, how far its draws lie from the fiber, and the spread that is certified. The training-free proposals stand beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.flow.wavelet_config import WaveletConfig
from invkit.pipeline.baseline import baseline
from invkit.pipeline.certify import Certified, certify, epsilon_of
from invkit.pipeline.ladder import sample_spread
from invkit.pipeline.layer_config import LayerConfig
from invkit.pipeline.loading import load
from invkit.pipeline.parts import Parts
from invkit.pipeline.store import Store
from invkit.pipeline.subject import choose_subject
from invkit.plugins.manager import default_host
from invkit.representation.completeness import completeness
from invkit.representation.spectrum import radial_bands
from invkit.sampling.sampler import Reference, draw
from invkit.split.split import Split


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--representation", action="append", choices=["vae", "wavelet"])
    parser.add_argument("--steps", type=int, default=WaveletConfig().steps, help="of what is trained here")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--refine", type=int, default=16)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(options, options.cache or Path(folder))
    if options.json:
        print(json.dumps({"rows": rows}))
        return 0
    for row in rows:
        print(" | ".join(f"{name} {value}" for name, value in row.items()))
    return 0


def measured(options: argparse.Namespace, cache: Path) -> list[dict[str, Any]]:
    """Return one row for each representation, and one for the training-free proposals."""
    host = default_host()
    denoiser = load(options.model, device="cpu", host=host)
    x = choose_subject(None, seed=0, dose=None, hu_range=None).x[:1]
    slices = load_slices(None)
    split = Split(denoiser, options.layer)
    z = split.phi(x)
    rows: list[dict[str, Any]] = []
    reference = None
    for name in options.representation or ["vae", "wavelet"]:
        config = LayerConfig()
        config = config.model_copy(
            update={"wavelet": config.wavelet.model_copy(update={"steps": options.steps})}
        )
        parts = Parts(
            Store(host, cache), slices, bundled=True, config=config, vae_preset="default", seed=0,
            device="cpu", representation=name, say=lambda line: print(line, file=sys.stderr),
        )  # fmt: skip
        begun = time.process_time()
        vae = parts.vae("low")
        found = parts.layer(split, vae, "low")
        trained = time.process_time() - begun
        model = found.model
        # One scale and one epsilon for all, else the spreads could not be compared.
        reference = reference or Reference(split, z, model.meta["scale"])
        epsilon = epsilon_of(float(model.meta["eta"])) if not rows else rows[0]["epsilon"]
        begun = time.process_time()
        drawn = draw(model, x, z, reference, samples=options.samples, seed=0, image=0)
        seconds = time.process_time() - begun
        samples = drawn.samples[: options.refine]
        proven = certify(
            samples, reference, denoiser, x, model.reconstruct(x), epsilon=epsilon, seed=0, image=0
        )
        patches = PatchSampler(slices.part("test"), 128, seed=1).batch(0, 64).x
        numbers, rate = 128 * 128, None
        if name == "vae":
            numbers = vae.vae.d
            rate = float(vae.vae.encode(patches).kl().mean())
        kept = completeness(patches, model.reconstruct, numbers=numbers, rate=rate)
        rows.append(
            {
                "representation": name,
                "origin": found.origin,
                "training_cpu_s": round(trained, 1) if found.origin == "trained" else None,
                "draw_cpu_s": round(seconds, 2),
                "numbers": numbers,
                "rate_nats": rate,
                "rmse_hu": kept.rmse,
                "lost": [round(float(share), 3) for share in kept.lost],
                "nll": model.meta["nll"],
                "floor": model.meta["floor"],
                "regressor_rmse_hu": model.meta["regressor_rmse_hu"],
                "epsilon": epsilon,
                "largest_hu": float((drawn.samples - drawn.mean).abs().max()),
                "fiber_error": float(drawn.fiber_error.square().mean().sqrt()),
                **_spreads(proven, x, drawn.samples),
            }
        )
    assert reference is not None
    free = baseline(reference, denoiser, x, count=options.refine, epsilon=rows[0]["epsilon"], seed=0, image=0)
    rows.append({"representation": "training-free", "epsilon": rows[0]["epsilon"], **_spreads(free, x)})
    return rows


def _spreads(found: Certified | None, x: Tensor, raw: Tensor | None = None) -> dict[str, Any]:
    """Return spreads before and after refinement, HU, with the interval of the latter, and its plausibility by band."""
    row: dict[str, Any] = {"draws_hu": None if raw is None else sample_spread([raw], seed=0).value}
    if found is None:
        return row | {"certified": "0 of 0"}
    row["proposals_hu"] = sample_spread([found.proposals], seed=0).value
    row["certified"] = f"{len(found.samples)} of {len(found.images)}"
    if len(found.samples) > 1:
        spread = sample_spread([found.samples], seed=0)
        row["spread_hu"] = [spread.value, spread.low, spread.high]
        row["power"] = [
            round(float(share), 2) for share in radial_bands(found.samples).mean(0) / radial_bands(x)[0]
        ]
    return row


if __name__ == "__main__":
    sys.exit(main())
