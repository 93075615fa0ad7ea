"""Fill the marked figures of the pages by measurement, with the weights that are bundled.

`python docs/measure.py [--ct PATH] [NAME ...]` replaces what stands between `<!-- figure: NAME -->` and
`<!-- end figure: NAME -->`; all of them by default. PATH is CT at full dose, split by patient as in training.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from measure_ct import real_depth, real_layers, real_quality, real_scan, real_slice
from measure_text import fenced, invkit, table

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/getting-started.md",
    "docs/method.md",
    "docs/cli.md",
    "docs/bundled.md",
    "docs/validate.md",
    "docs/real-ct.md",
    "docs/benchmarks.md",
)
MODELS = ("chen2017", "chen2017-k3", "yang2018")
SHOWN = (
    "tolerance",
    "frame_px",
    "condition",
    "noise",
    "certified",
    "spread_hu",
    "spread_input_hu",
    "vae_posterior_hu",
    "nll",
)
ANALYZE = ("analyze", "--model", "yang2018", "--layer", "3")


@cache
def analysed() -> dict[str, Any]:
    """Return the figures of the default analysis."""
    found: dict[str, Any] = json.loads(invkit(*ANALYZE, "--json"))["metrics"]
    return found


def shortened(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of figures that a page can show, and the first structure."""
    return {"structures": metrics["structures"][:1], **{name: metrics[name] for name in SHOWN}}


def published(metrics: dict[str, Any]) -> str:
    """Return what stands behind the published figure."""
    from invkit.statistics.intervals import Interval

    rows = [
        ("samples vary by", metrics["spread_hu"], "HU"),
        ("D over the VAE's own posterior of x, without any denoiser, by", metrics["vae_posterior_hu"], "HU"),
        ("samples of the `input` control, where z is x, by", metrics["spread_input_hu"], "HU"),
        ("samples of the `const` control, where z says nothing, by", metrics["spread_const_hu"], "HU"),
        ("f of the samples varies by", metrics["spread_f_hu"], "HU"),
        (
            "distance of a sample's activation from z, where two scans of x are 1 apart",
            metrics["fiber_error_eta"],
            "",
        ),
        ("share of the code that z determines", metrics["retained_information"], ""),
        ("the codes hold", metrics["code_nats"], "nats"),
        ("to hold the noise of x to within 2 HU takes", metrics["noise_nats"], "nats"),
        ("noise that hides from the layer, without a model", metrics["noise"]["hidden_hu"], "HU"),
        ("noise that hides from the image itself", metrics["noise"]["identity_hidden_hu"], "HU"),
    ]
    return table(("figure", "value"), [(name, Interval.of(value).text(unit)) for name, value, unit in rows])


def artifacts(kind: str) -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Yield name, provenance, size in bytes and sha256 of each bundled file of a kind."""
    from invkit.artifacts import read_sidecar, sha256_file
    from invkit.plugins.manager import default_host

    for artifact in default_host().artifacts():
        if artifact.kind == kind:
            path = artifact.locate()
            yield path.name, read_sidecar(path)["meta"], path.stat().st_size, sha256_file(path)


def weights() -> Iterator[tuple[str, dict[str, Any], int, str]]:
    """Yield the same of the denoisers' weights."""
    import importlib.resources

    from invkit.artifacts import read_sidecar, sha256_file
    from invkit.plugins.manager import default_host

    for model in MODELS:
        for item in default_host().denoiser(model)[0].weights:
            package, _, inside = item.source.removeprefix("package:").partition("/")
            path = Path(str(importlib.resources.files(package))).joinpath(inside)
            meta = read_sidecar(path)["meta"] if path.with_suffix(".json").exists() else {}
            found = sha256_file(path)
            yield f"{model}.{item.tag}", {**meta, "trained_on": item.trained_on}, path.stat().st_size, found


def bundled_files() -> str:
    """Return what each bundled file is."""
    found = [(kind, *item) for kind in ("vae", "cinn") for item in artifacts(kind)]
    found = [("denoiser", *item) for item in weights()] + found
    rows = [
        (
            kind,
            f"`{name}`",
            f"{size / 1e6:.2f} MB",
            meta.get("steps", ""),
            meta["trained_on"],
            f"`{sha[:12]}`",
        )
        for kind, name, meta, size, sha in found
    ]
    total = sum(size for _, _, _, size, _ in found)
    text = table(("kind", "file", "size", "steps", "trained on", "sha256 begins with"), rows)
    return f"{text}\n\nTogether {total / 1e6:.1f} MB."


def denoisers() -> str:
    """Measure the denoisers on whole held-out slices of phantoms."""
    from invkit.statistics.intervals import Interval

    rows = []
    for model in MODELS:
        for exam in json.loads(invkit("evaluate", model, "--data", "phantoms", "--json"))["exams"]:
            figures = [
                Interval.of(exam[image][name]).text()
                for name in ("rmse_hu", "ssim")
                for image in ("low_dose", "denoised")
            ]
            rows.append((model, exam["name"], str(exam["patients"]), *figures))
    return table(("denoiser", "exam", "patients", "RMSE, HU", "denoised", "SSIM", "denoised"), rows)


def vaes() -> str:
    """Return the held-out figures that the VAEs' files hold."""
    rows = []
    for name, meta, _, _ in artifacts("vae"):
        held_out = meta["held_out"]
        limit, bands = held_out["rmse_quantiles_hu"]["0.99"], held_out["bands"]
        pca = held_out.get("pca", {}).get("rmse_hu")
        rows.append(
            (
                f"`{name}`",
                meta["domain"],
                f"{held_out['rmse_hu']:.1f} HU",
                "not measured" if pca is None else f"{pca:.1f} HU",
                f"{limit:.1f} HU",
                f"{min(bands):.2f} to {max(bands):.2f}",
            )
        )
    return table(("file", "domain", "RMSE", "RMSE of PCA", "99 % quantile", "energy in bands"), rows)


def cinns() -> str:
    """Return the held-out figures that the cINNs' files hold."""
    rows = [
        (
            f"`{name}`",
            meta["layer"],
            meta["domain"],
            f"{meta['nll']:.3f}",
            f"{meta['floor']:.3f}",
            f"{meta['regressor_rmse_hu']:.1f} HU",
            f"{meta['eta']:.3g}" if meta["eta"] else "none",
        )
        for name, meta, _, _ in artifacts("cinn")
    ]
    return table(("file", "z", "domain", "NLL", "floor", "error of g(z)", "η"), rows)


def validation() -> str:
    """Return the rows of `invkit validate`, and how long they took."""
    found = json.loads(invkit("validate", "--json"))
    rows = [
        (
            f"`{row['id']}`",
            row["measure"],
            f"{row['value']:.3g}",
            f"{'≤' if row['relation'] == '<=' else '≥'} {row['bound']:.3g}",
            "yes" if row["holds"] else "**no**",
        )
        for row in found["rows"]
    ]
    text = table(("row", "measure", "value", "bound", "holds"), rows)
    return f"{text}\n\nMeasured with seed {found['seed']} in {sum(found['seconds'].values()):.0f} s on this machine."


def benchmarks() -> str:
    """Return what `make bench` wrote."""
    found = json.loads((ROOT / "benchmarks/results/latest.json").read_text(encoding="utf-8"))
    rows = [
        (
            f"`{row['id']}`",
            row["what"],
            f"{row['ours_s']:.3g} s",
            row["rival"],
            f"{row['rival_s']:.3g} s",
            f"{row['ratio']:.2f}",
            "" if row["target"] is None else f"{row['target']:.3g}",
            "" if row["share_of_limit"] is None else f"{100 * row['share_of_limit']:.0f} %",
            "" if row["target"] is None else "yes" if row["holds"] else "**no**",
        )
        for row in found["rows"]
    ]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    text = table(
        ("row", "what", "ours", "rival", "its time", "ratio", "target", "of the limit", "holds"), rows
    )
    return f"{text}\n\nMeasured on {found['cores']} cores of {found['processor']}, with {versions}."


def replaced(text: str, name: str, content: str) -> str:
    """Return a page with the figure of this name filled in."""
    begin, end = f"<!-- figure: {name} -->\n", f"<!-- end figure: {name} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{content}\n{end}{after}"


def figures(ct: Path | None) -> dict[str, Callable[[], str]]:
    """Return how each figure is made, by name."""
    return {
        "analyze-output": lambda: fenced("text", invkit(*ANALYZE)),
        "analyze-json": lambda: fenced("json", json.dumps(shortened(analysed()), indent=2)),
        "published": lambda: published(analysed()),
        "bundled-files": bundled_files,
        "denoisers": denoisers,
        "vaes": vaes,
        "cinns": cinns,
        "validate": validation,
        "benchmarks": benchmarks,
        "real-scan": lambda: real_scan(ct),
        "real-quality": lambda: real_quality(ct),
        **{f"real-{model}": lambda of=model: real_layers(ct, of) for model in ("chen2017", "yang2018")},
        **{f"real-depth-{model}": lambda of=model: real_depth(ct, of) for model in ("chen2017", "yang2018")},
        "real-slice": lambda: real_slice(ct),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--ct", type=Path)
    chosen = parser.parse_args()
    ways = figures(chosen.ct)
    for name in chosen.names or ways:
        content = ways[name]()
        for page in PAGES:
            path = ROOT / page
            text = path.read_text(encoding="utf-8")
            if f"<!-- figure: {name} -->" in text:
                path.write_text(replaced(text, name, content), encoding="utf-8")


if __name__ == "__main__":
    main()
