"""Puts trained files where they ship and writes the tables that name them: the last step of making the bundled parts.

Usage: python docs/bundle.py FOLDER, where FOLDER holds chen2017.safetensors, chen2017-k3.safetensors, yang2018.safetensors,
vae-low.safetensors, vae-high.safetensors, cinn-input.safetensors, cinn-const.safetensors, the same with `-high`, and
yang2018-3.safetensors, each with its sidecar; what is missing does not ship.
"""

import re
import shutil
import sys
from pathlib import Path

from invkit.artifacts import load, read_sidecar

ROOT = Path(__file__).resolve().parents[1]
LICENSE = "Apache-2.0"
PARTS = {
    "vae-low": ("vae", "low", "VAE of low-dose images"),
    "vae-high": ("vae", "high", "VAE of full-dose images"),
    "cinn-input": ("cinn", None, "cINN of the control input"),
    "cinn-const": ("cinn", None, "cINN of the control const"),
    "cinn-input-high": ("cinn", None, "cINN of the control input, high-dose images"),
    "cinn-const-high": ("cinn", None, "cINN of the control const, high-dose images"),
}
LAYERS = {"yang2018-3": "cINN of yang2018, layer 3"}
DENOISERS = {"chen2017": ("chen2017", 5), "chen2017-k3": ("chen2017", 3), "yang2018": ("yang2018", None)}
CREDIT = "the CT slices are from COVID-19-NY-SBU, TCIA, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0"


def place(source: Path, folder: Path, kind: str) -> str:
    """Check a trained file, copy it with its sidecar, and return its sha256."""
    stored = load(source, kind=kind)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        target = folder / f"{source.stem}{suffix}"
        shutil.copyfile(source.with_suffix(suffix), target)
        target.chmod(0o644)
    return stored.sha256


def artifact(kind: str, path: str, sha256: str, description: str, default_for: str | None) -> str:
    """Return one `Artifact(...)` as source text."""
    meta = f'        meta={{"default_for": "{default_for}"}},\n' if default_for else ""
    return f'    Artifact(\n        "{kind}",\n        "{path}",\n        "{sha256}",\n        "{description}",\n{meta}    ),\n'


def replace(path: Path, name: str, text: str) -> None:
    """Replace the assignment of a module's table, from its name to the end of the file."""
    source = path.read_text()
    start = re.search(rf"^{name}\b", source, re.MULTILINE)
    assert start is not None, (path, name)
    path.write_text(source[: start.start()] + text)


def main(folder: Path) -> None:
    """Place every file that is there and rewrite the tables."""
    rows = [
        artifact(kind, f"package:invkit/bundled/{name}.safetensors", sha256, about, default_for)
        for name, (kind, default_for, about) in PARTS.items()
        if (folder / f"{name}.safetensors").exists()
        for sha256 in [place(folder / f"{name}.safetensors", ROOT / "invkit/bundled", kind)]
    ]
    replace(
        ROOT / "invkit/plugins/bundled.py",
        "BUNDLED",
        f"BUNDLED: tuple[Artifact, ...] = (\n{''.join(rows)})\n",
    )
    layers = ROOT / "plugins/yang2018/invkit_yang2018"
    found = [
        artifact("cinn", f"package:invkit_yang2018/trained/{name}.safetensors", sha256, about, None).replace(
            "Artifact(", "invkit.Artifact("
        )
        for name, about in LAYERS.items()
        if (folder / f"{name}.safetensors").exists()
        for sha256 in [place(folder / f"{name}.safetensors", layers / "trained", "cinn")]
    ]
    replace(layers / "cinns.py", "CINNS", f"CINNS: tuple[invkit.Artifact, ...] = (\n{''.join(found)})\n")
    weights: dict[tuple[str, int | None], str] = {}
    for name, (plugin, variant) in DENOISERS.items():
        source = folder / f"{name}.safetensors"
        if not source.exists():
            continue
        sha256 = place(source, ROOT / f"plugins/{plugin}/invkit_{plugin}/trained", "denoiser")
        trained_on = read_sidecar(source)["meta"]["trained_on"]
        weights[plugin, variant] = (
            "invkit.Weights(\n"
            '            tag="bundled",\n'
            f'            source="package:invkit_{plugin}/trained/{name}.safetensors",\n'
            f'            sha256="{sha256}",\n'
            f'            trained_on="{trained_on}; {CREDIT}",\n'
            f'            license="{LICENSE}",\n'
            "        ),"
        )
    chen = "".join(f"    {k}: ({weights.get(('chen2017', k), '')}),\n" for k in (5, 3))
    replace(
        ROOT / "plugins/chen2017/invkit_chen2017/weights.py",
        "WEIGHTS",
        f"WEIGHTS: dict[int, tuple[invkit.Weights, ...]] = {{\n{chen}}}\n",
    )
    replace(
        layers / "weights.py",
        "WEIGHTS",
        f"WEIGHTS: tuple[invkit.Weights, ...] = ({weights.get(('yang2018', None), '')})\n",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
