"""Adding weights of others: from a file or an https URL to a checked safetensors file under a tag, once."""

__all__ = ["install", "stated_model"]

import hashlib
import re
from pathlib import Path
from typing import Any

from invkit import artifacts
from invkit.denoisers.spec import NAME, Affine, Denoiser, Upstream, Weights
from invkit.denoisers.weights.installed import Installed, affine, models_folder, read_record, tombstone
from invkit.denoisers.weights.read import LARGEST, download, load_into, provenance_of
from invkit.denoisers.weights.rename import fitted
from invkit.denoisers.weights.state import state_of
from invkit.errors import ArtifactError, DenoiserError, UsageError
from invkit.training.lock import exclusive

UNKNOWN = "not stated"
HEADER = 2**20  # bytes of a safetensors header that are looked at for a name


def install(
    spec: Denoiser,
    source: str,
    tag: str,
    *,
    sha256: str | None = None,
    trained_on: str | None = None,
    terms: str | None = None,
    preprocessing: Affine | None = None,
    folder: Path | None = None,
) -> tuple[Installed, bool]:
    """Store trained weights under `NAME.TAG`; return their record, and whether they were there already.

    A `.pt` or `.pth` state dict is read with `weights_only=True` and kept as safetensors; nothing in it is run. Names of
    tensors are the denoiser's own or those of one of its upstreams.

    Args:
        spec: the denoiser.
        source: a file, or an https URL.
        tag: lower case letters, digits, `_`, `-`; it names the same weights for ever.
        sha256: of the source's bytes, in hexadecimal; needed for a URL.
        trained_on: one line for people.
        terms: the licence under which they may be used.
        preprocessing: between HU and network units; by default what the file, its upstream or the denoiser states.
        folder: where to keep them; `models_folder()` by default.

    Raises:
        UsageError: the tag names other weights, or a URL lacks its sha256.
        ArtifactError: the file is missing, other than promised, not a state dict, or does not fit.
        ResourceError: the folder cannot be written.
    """
    if not NAME.fullmatch(tag):
        raise UsageError(f"tag {tag!r} must match {NAME.pattern}")
    if tag in {weights.tag for weights in spec.weights}:
        raise UsageError(f"{spec.name}.{tag} is provided by the plugin. Choose another tag")
    url = "://" in source
    data = _downloaded(source, tag, sha256) if url else _read(Path(source).expanduser(), sha256)
    found = hashlib.sha256(data).hexdigest()
    label = source if url else Path(source).name
    stated = provenance_of(data)
    matched = fitted(state_of(data, label=label), spec, label=label)
    try:
        load_into(matched.build(), matched.tensors, owner=label)
    except DenoiserError as error:
        raise ArtifactError(str(error)) from None
    upstream = matched.upstream
    meta: dict[str, Any] = {
        "model": spec.name,
        "tag": tag,
        "source": label,
        "source_sha256": found,
        "upstream": upstream.name if upstream else None,
        "preprocessing": _preprocessing(preprocessing, stated, spec, upstream),
        "trained_on": trained_on or str(stated.get("trained_on", UNKNOWN)),
        "license": terms or UNKNOWN,
        **{key: stated[key] for key in ("split", "splits") if key in stated},
    }
    folder = folder or models_folder()
    path = folder / f"{spec.name}.{tag}.safetensors"
    with exclusive(folder):
        if (existing := _existing(path, meta)) is not None:
            return existing, True
        artifacts.save(path, matched.tensors, kind="denoiser", meta=meta)
        tombstone(path).unlink(missing_ok=True)
    return read_record(path.with_suffix(".json")), False


def stated_model(path: Path) -> str | None:
    """Return which denoiser a file says that it was trained as; `None` where invkit did not train it.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        with path.expanduser().open("rb") as stream:
            length = stream.read(8)
            header = stream.read(min(int.from_bytes(length, "little"), HEADER))
    except OSError as error:
        raise ArtifactError(f"cannot read the weights {path}: {error.strerror or error}") from None
    name = provenance_of(length + header).get("name")
    return name if isinstance(name, str) else None


def _existing(path: Path, meta: dict[str, Any]) -> Installed | None:
    """Return the same weights where they are there already; refuse a tag that names others or once did."""
    new = Installed(path, "", meta)
    for sidecar in (path.with_suffix(".json"), tombstone(path)):
        if not sidecar.exists():
            continue
        old = read_record(sidecar)
        if old.identity != new.identity:
            named = "named" if sidecar == tombstone(path) else "names"
            raise UsageError(
                f"{new.name} {named} other weights already (sha256 of their source "
                f"{old.meta['source_sha256'][:12]}..., here {meta['source_sha256'][:12]}..., or another normalisation). "
                "A tag always refers to the same weights: choose another"
            )
        if sidecar != tombstone(path) and path.exists() and artifacts.sha256_file(path) == old.sha256:
            return old
    return None


def _downloaded(url: str, tag: str, sha256: str | None) -> bytes:
    if sha256 is None:
        raise UsageError(
            f"weights from a URL need their sha256: add --sha256 with 64 hexadecimal digits for {url}"
        )
    return download(Weights(tag, url, _digest(sha256), trained_on=UNKNOWN, license=UNKNOWN))


def _read(path: Path, sha256: str | None) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise ArtifactError(f"{path} has {path.stat().st_size} bytes, the limit is {LARGEST}")
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != _digest(sha256):
        raise ArtifactError(f"{path} is not the expected file: its sha256 is {found}, expected {sha256}")
    return data


def _digest(sha256: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256.lower()):
        raise UsageError(f"--sha256 must be 64 hexadecimal digits, got {sha256!r}")
    return sha256.lower()


def _preprocessing(
    given: Affine | None, stated: dict[str, Any], spec: Denoiser, upstream: Upstream | None
) -> dict[str, Any] | None:
    """Return an affine map to keep with the weights; `None` where the denoiser has one of its own kind."""
    if given is not None:
        return given.describe()
    default = (upstream.preprocessing if upstream else None) or spec.preprocessing
    described = stated.get("preprocessing", default.describe())
    if described == spec.preprocessing.describe() and described.get("kind") != "affine":
        return None
    affine(described)
    return dict(described)
