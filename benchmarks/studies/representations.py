"""What a layer's certified spread is with each sampler: `python benchmarks/studies/representations.py --layer 3`.

Trains what is missing, draws for the default image, refines, and prints one row for each sampler: what it keeps of held-out
patches, how far its draws lie from the fiber, and the spread that is certified, and that is plausible too. The training-free
proposals stand beside them, 8 of them at most.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from invkit_samplers.conditional.family import given_code
from invkit_samplers.spatial.family import code_of
from torch import Tensor

from invkit.analysis.subject import choose_subject
from invkit.certificates.baseline import baseline, plausible_spread
from invkit.certificates.certify import Certified, certify
from invkit.certificates.judge import Judge
from invkit.data.patches import PatchSampler
from invkit.images.bands import radial_bands
from invkit.parts.config import LayerConfig
from invkit.parts.store import Store
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import gather
from invkit.plugins.load import load
from invkit.plugins.manager import default_host
from invkit.samplers.family import find_layers, open_family
from invkit.sampling.draw import draw
from invkit.sampling.layer import ScaledLayer, Target
from invkit.sampling.spread import sample_spread
from invkit.split.split import Split
from invkit.vae.completeness import completeness

SAMPLERS = ("vae", "wavelet", "spatial", "conditional")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--input", type=Path, help="the image, at low dose; by default that of an analysis")
    parser.add_argument("--sampler", action="append", choices=SAMPLERS)
    parser.add_argument("--steps", type=int, help="of the flows that are trained here, by default their own")
    parser.add_argument("--preset", default="default", help="of what is trained for the layer")
    parser.add_argument("--vae-preset", help="train the VAE of `vae` by it, in place of the bundled one")
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
    """Return one row for each sampler, and one for the training-free proposals."""
    host = default_host()
    denoiser = load(options.model, device="cpu", host=host)
    x = choose_subject(options.input, seed=0).x[:1]
    # The same slices as those of an analysis, so that its parts are found.
    slices = gather(None, host, 0, "physical", Store(host, cache).root)
    split = Split(denoiser, options.layer)
    rows: list[dict[str, Any]] = []
    target = judge = None
    for name in options.sampler or SAMPLERS:
        config = LayerConfig.preset(options.preset)
        if options.steps:
            samplers = {"wavelet": {"steps": options.steps}, "spatial": {"flow": {"steps": options.steps}}}
            config = config.model_copy(update={"samplers": samplers})
        workshop = Workshop(
            Store(host, cache),
            slices,
            bundled=options.vae_preset is None,
            config=config,
            vae_preset=options.vae_preset or "default",
            seed=0,
            device="cpu",
            say=lambda line: print(line, file=sys.stderr),
        )
        begun = time.process_time()
        vae = workshop.vae("low")
        coded = time.process_time() - begun
        record = host.sampler(name)
        (found,) = find_layers(record, open_family(record, "low"), [split], "low", workshop)
        trained = time.process_time() - begun
        model = found.model
        assert model is not None
        judge = judge or Judge(denoiser, vae, slices, (x.shape[-2], x.shape[-1]), config.dose, 0)
        # One scale and one epsilon for all, else the spreads could not be compared.
        if target is None:
            scale, eta = float(model.meta["scale"]), float(model.meta["eta"])
            target = ScaledLayer.of(split, scale, eta, 1.0).at(x)
        epsilon = target.layer.epsilon
        begun = time.process_time()
        drawn = draw(model.draws(target), target, samples=options.samples, seed=0, image=0)
        seconds = time.process_time() - begun
        samples = drawn.samples[: options.refine]
        proven = certify(samples, target, model.reconstruct(x), seed=0, image=0)
        patches = PatchSampler(slices.part("test"), 128, seed=1).batch(0, 64).x
        numbers, rate = 128 * 128, None
        if name == "vae":
            numbers = vae.vae.d
            rate = float(vae.vae.encode(patches).kl().mean())
        elif name == "spatial":
            code = code_of("low", workshop).vae
            numbers, rate = code.d, float(code.encode(patches).kl().mean())
        elif name == "conditional":
            given = given_code(denoiser, "low", workshop).vae
            part = patches[..., : given.patch, : given.patch]
            numbers, rate = given.d, float(given.encode(part, denoiser(part)).kl().mean())
        kept = completeness(patches, model.reconstruct, numbers=numbers, rate=rate)
        rows.append(
            {
                "sampler": name,
                "origin": found.origin,
                "training_cpu_s": round(trained, 1) if found.origin == "trained" else None,
                "of_it_flat_vae_s": round(coded, 1),
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
                **_spreads(proven, target, judge, drawn.samples),
            }
        )
    assert target is not None and judge is not None
    free = baseline(target, count=options.refine, seed=0, image=0)
    rows.append({"sampler": "training-free", "epsilon": rows[0]["epsilon"], **_spreads(free, target, judge)})
    return rows


def _spreads(
    found: Certified | None, target: Target, judge: Judge, raw: Tensor | None = None
) -> dict[str, Any]:
    """Return spreads before and after refinement, HU, with intervals; how many are plausible; and their power by band."""
    row: dict[str, Any] = {"draws_hu": None if raw is None else sample_spread([raw], seed=0).value}
    if found is None:
        return row | {"certified": "0 of 0"}
    row["proposals_hu"] = sample_spread([found.proposals], seed=0).value
    row["certified"] = f"{len(found.samples)} of {len(found.images)}"
    found = replace(found, placed=judge.place(found.images, target.x, target.f_x))
    count, plausible = plausible_spread([found], seed=0)
    row["plausible"] = f"{count} of {len(found.samples)}"
    if plausible is not None:
        row["plausible_hu"] = [plausible.value, plausible.low, plausible.high]
    if len(found.samples) > 1:
        spread = sample_spread([found.samples], seed=0)
        row["spread_hu"] = [spread.value, spread.low, spread.high]
        row["power"] = [
            round(float(share), 2)
            for share in radial_bands(found.samples).mean(0) / radial_bands(target.x)[0]
        ]
    return row


if __name__ == "__main__":
    sys.exit(main())
