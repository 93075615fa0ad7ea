"""A report of made-up figures."""

import numpy as np

from invkit.report.data import LayerFigures, ReportData, Section
from invkit.statistics.intervals import Interval

METRICS = {
    "fiber_error": {
        "samples": Interval(0.13, 0.12, 0.14),
        "vae": {"value": 0.1, "low": 0.09, "high": 0.11},
        "input": 0.11,
        "random": Interval(1.0, 0.9, 1.1),
        "const": Interval(0.7, 0.6, 0.8),
    },
    "noise_distance": 0.3,
    "spread_hu": Interval(40.0, 38.0, 42.0),
    "spread_f_hu": 20.0,
    "vae_rmse_hu": 55.5,
    "nll": {"layer": -1.0, "input": -1.09, "const": 0.2, "floor": -1.1},
}


def make_layer(
    key="3", *, note="conv 3x3x32, before ReLU", shape=(32, 32), metrics=METRICS, full=True, seed=0
):
    rng = np.random.default_rng(seed)
    x = rng.normal(40, 60, shape).astype(np.float32)
    samples = x + rng.normal(0, 30, (5, *shape)).astype(np.float32)
    extra = {}
    if full:
        extra = {
            "reconstruction": x * 0.8,
            "output": x * 0.9,
            "output_std": samples.std(0) / 2,
            "swaps": samples[:3] + 20,
        }
    return LayerFigures(key, x, samples.mean(0), samples.std(0), samples, note, metrics=metrics, **extra)


def make_report(*layers, **changes):
    base = {
        "model": "yang2018",
        "layers": layers or (make_layer(),),
        "image": "slice 1 of a CT that ships with pydicom",
        "samples": 250,
        "model_description": "eight convolutions",
        "verdict": (
            "Samples vary by 40 HU: this is the spread of the model.",
            "The `input` control has 30 HU.",
        ),
        "warnings": ("The image lies outside the distribution.",),
        "provenance": ("Trained on built-in phantoms.",),
        "sections": (Section("Lesions", "None appeared.\n\nNone vanished."),),
        "config": {"seed": 0, "vae": {"d": 256}},
        "versions": {"invkit": "0.1.0"},
        "hashes": {"image": "ab" * 32},
        "command": "invkit analyze --model yang2018 --layer 3",
        "created": "2026-01-01",
    }
    return ReportData(**(base | changes))
