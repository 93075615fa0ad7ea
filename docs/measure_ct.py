"""The figures of real CT; where it lies is `--ct` of `measure.py`."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from measure_text import fenced, invkit, table

__all__ = ["needed", "real_depth", "real_layers", "real_quality", "real_scan", "real_slice"]

LAYERS = {"chen2017": ("1", "3", "5"), "yang2018": ("1", "3", "5", "8")}
PICTURES = Path(__file__).parent / "_static"
PATIENT = "A027284/19001231-131.dcm"  # held out by the split of bundled.md
ROWS, COLUMNS = slice(220, 348), slice(160, 288)
RADIUS = 2  # pixels, of the discs of the table
QUALITY = (("ssim", "SSIM", 3), ("psnr_db", "PSNR, dB", 1), ("rmse_hu", "RMSE, HU", 1), ("vif", "VIF", 3))


def needed(ct: Path | None) -> Path:
    """Return where the CT lies."""
    if ct is None:
        raise SystemExit("figures of real CT need --ct PATH")
    return ct.resolve()


def low_dose(ct: Path, folder: Path) -> Path:
    """Simulate a quarter of the dose of the held-out slice; return its folder."""
    out = folder / "low"
    invkit(
        "data", "simulate", str(ct / PATIENT), "--dose", "0.25", "--kernel", "ge_standard", "--out", str(out)
    )
    return out


def crop(ct: Path, folder: Path) -> Path:
    """Return a file with 128 x 128 pixels of the held-out slice at low dose."""
    import numpy as np

    import invkit as api

    path = folder / "crop.npy"
    np.save(path, api.read_image(low_dose(ct, folder))[0, 0, ROWS, COLUMNS].numpy())
    return path


def analysed(ct: Path, folder: Path, model: str, data: Path, *words: str) -> dict[str, Any]:
    """Analyse `data` beside phantoms and the CT; return the JSON and leave the run in `folder/run-MODEL`."""
    given = ("--train-data", "phantoms", "--train-data", str(ct), "--out", str(folder / f"run-{model}"))
    found: dict[str, Any] = json.loads(
        invkit("analyze", "--input", str(data), "--model", model, *words, *given, "--json")
    )
    return found


def real_scan(ct: Path | None) -> str:
    """Return what the CT is."""
    ct = needed(ct)
    return fenced("text", invkit("data", "scan", str(ct)).replace(str(ct), "PATH"))


def real_quality(ct: Path | None) -> str:
    """Measure the denoisers on the held-out patient."""
    ct = needed(ct)
    rows = []
    for model in LAYERS:
        found = json.loads(invkit("evaluate", model, "--data", str(ct), "--window", "C", "--json"))
        for exam in found["exams"]:
            for image in ("low_dose", "denoised"):
                values = [exam[image][name] for name, _, _ in QUALITY]
                texts = [
                    f"{value['value'] if isinstance(value, dict) else value:.{digits}f}"
                    for value, (_, _, digits) in zip(values, QUALITY, strict=True)
                ]
                rows.append((model, image.replace("_", " "), *texts))
    return table(("denoiser", "image", *(title for _, title, _ in QUALITY)), rows)


def shown(value: dict[str, float] | float | None) -> str:
    """Return a figure with its interval."""
    from invkit.statistics.intervals import Interval

    return "–" if value is None else Interval.of(value).text()


def real_layers(ct: Path | None, model: str) -> str:
    """Measure what needs no trained model at layers of a denoiser, on a crop of the held-out slice; keep its figure."""
    ct = needed(ct)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        layers = [word for layer in LAYERS[model] for word in ("--layer", layer)]
        found = analysed(ct, folder, model, crop(ct, folder), *layers, "--sampler", "training-free")
        keep(folder / f"run-{model}", f"real-{model}")
    rows = []
    for key, one in found["layers"].items():
        metrics = one["metrics"]
        condition, proof, noise = metrics["condition"], metrics["certified"], metrics["noise"]
        discs = [row for row in metrics["structures"] if row["radius_px"] == RADIUS]
        disc = discs[0] if discs else {}
        rows.append(
            (
                key,
                f"{'≥ ' if condition['at_least'] else ''}{shown(condition['value'])}",
                *(shown(noise[name]) for name in ("hidden_hu", "identity_hidden_hu")),
                *(shown(disc.get(name)) for name in ("hidden_hu", "identity_hidden_hu")),
                *(percent(disc.get(name)) for name in ("detectability_lost", "identity_detectability_lost")),
                f"{proof['count']} of {proof['refined']}",
            )
        )
    headings = (
        "layer",
        "condition",
        "noise that hides, HU",
        "(image)",
        f"disc of radius {RADIUS} px that hides, HU",
        "(image)",
        "its detectability that is lost, %",
        "(image)",
        "certified",
    )
    first = next(iter(found["layers"].values()))["metrics"]
    kept = ", ".join(
        f"{percent(row['contrast_kept'])} % at {row['radius_px']:.0f} px" for row in first["structures"]
    )
    noise = first["noise"]
    left = f"f leaves {shown(noise['out_hu'])} of {shown(noise['in_hu'])} HU of dose noise."
    return "\n".join((table(headings, rows), "", f"{left} Of the contrast of discs it keeps {kept}."))


def percent(value: dict[str, float] | float | None) -> str:
    """Return a share in per cent."""
    if isinstance(value, dict):
        value = {name: 100 * part for name, part in value.items()}
    return shown(value)


def real_depth(ct: Path | None, model: str) -> str:
    """Train the published model for every layer of a denoiser on phantoms and the CT, and keep the curves over depth."""
    ct = needed(ct)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        found = analysed(ct, folder, model, crop(ct, folder), "--layer", "all")
        shutil.copyfile(folder / f"run-{model}/figures/depth.png", PICTURES / f"real-depth-{model}.png")
    curves = {name: found[name] for name in ("retained", "regression")}
    errors = {one["layer"]: one["rmse_hu"] for one in curves["regression"]["layers"]}
    rows = [
        (
            key,
            *(
                shown(one["metrics"][name])
                for name in ("spread_hu", "spread_input_hu", "retained_information")
            ),
            shown(errors[key]),
        )
        for key, one in found["layers"].items()
    ]
    headings = (
        "layer",
        "spread of the samples, HU",
        "of the `input` control, HU",
        "retained",
        "error of g(z), HU",
    )
    said = [f"- {order(curve, name)}" for name, curve in curves.items()]
    return "\n".join((table(headings, rows), "", *said))


def order(curve: dict[str, Any], name: str) -> str:
    """Return in words whether a curve over depth is to be trusted."""
    what = {"retained": "retained information", "regression": "error of the regression"}[name]
    if curve["trusted"]:
        return f"The order of the layers by {what} is possible, and no fit was still gaining at its end."
    if curve["trusted"] is None:
        return f"Nothing can be said about the order of the layers by {what}."
    return f"{what.capitalize()} is not to be trusted. {' '.join(curve['reasons'])}"


def real_slice(ct: Path | None) -> str:
    """Measure what needs no trained model at layer 3 of yang2018 on the whole held-out slice, and keep its figure."""
    ct = needed(ct)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ("--layer", "3", "--sampler", "training-free")
        found = analysed(ct, folder, "yang2018", low_dose(ct, folder), *words)
        keep(folder / "run-yang2018", "real-slice")
    return "\n".join(f"> {sentence}" for sentence in (*found["warnings"], *found["verdict"]))


def keep(run: Path, name: str) -> None:
    """Copy the figure of certified samples of a run."""
    for kind in ("certified", "samples"):
        source = run / "figures" / f"{kind}.png"
        if source.exists():
            shutil.copyfile(source, PICTURES / f"{name}.png")
            return
