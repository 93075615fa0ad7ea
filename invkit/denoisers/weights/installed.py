"""Weights that the user added: one safetensors file and its sidecar for each tag, in a folder of the user's own."""

from __future__ import annotations

__all__ = ["Installed", "installed", "models_folder", "remove", "with_installed"]

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invkit.denoisers.spec import NAME, Affine, Denoiser, Weights
from invkit.errors import ArtifactError, DenoiserError, ResourceError, UnknownNameError

GONE = ".removed.json"


def models_folder() -> Path:
    """Return where added weights are kept: `models` in the folder of `INVKIT_CACHE`, else `~/.local/share/invkit/models`.

    Raises:
        ResourceError: there is neither the variable nor a home folder.
    """
    named = os.environ.get("INVKIT_CACHE")
    try:
        return Path(named) / "models" if named else Path.home() / ".local" / "share" / "invkit" / "models"
    except RuntimeError:
        raise ResourceError("there is no home folder for weights; set INVKIT_CACHE to a folder") from None


@dataclass(frozen=True)
class Installed:
    """What a sidecar says of added weights.

    Args:
        path: the safetensors file.
        sha256: of that file.
        meta: `model`, `tag`, `source`, `source_sha256`, `upstream`, `preprocessing`, `trained_on`, `license`.
    """

    path: Path
    sha256: str
    meta: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What users type, `MODEL.TAG`."""
        return f"{self.meta['model']}.{self.meta['tag']}"

    @property
    def identity(self) -> tuple[Any, ...]:
        """What decides the function that these weights make of a denoiser."""
        return tuple(self.meta[key] for key in ("source_sha256", "upstream", "preprocessing"))

    def weights(self, spec: Denoiser) -> Weights:
        """Return the description of these weights for their denoiser.

        Raises:
            ArtifactError: the denoiser no longer knows the project they are from, or the preprocessing is unknown.
        """
        upstreams = {upstream.name: upstream for upstream in spec.upstreams}
        wanted = self.meta["upstream"]
        if wanted is not None and wanted not in upstreams:
            raise ArtifactError(f"{self.name} is from {wanted}, which {spec.name} no longer knows")
        return Weights(
            tag=self.meta["tag"],
            source=str(self.path),
            sha256=self.sha256,
            trained_on=self.meta["trained_on"],
            license=self.meta["license"],
            preprocessing=affine(self.meta["preprocessing"]),
            build=upstreams[wanted].build if wanted is not None else None,
        )


def installed(folder: Path | None = None) -> tuple[list[Installed], list[str]]:
    """Return all added weights by name, and a complaint for each sidecar that cannot be used.

    Args:
        folder: where to look; `models_folder()` by default.
    """
    found, problems = [], []
    for path in sorted((folder or models_folder()).glob("*.json")):
        if path.name.endswith(GONE):
            continue
        try:
            found.append(read_record(path))
        except ArtifactError as error:
            problems.append(str(error))
    return found, problems


def with_installed(spec: Denoiser, folder: Path | None = None) -> Denoiser:
    """Return a denoiser with the weights that were added for it behind its own; itself where there are none."""
    taken = {weights.tag for weights in spec.weights}
    added = []
    for record in installed(folder)[0]:
        if record.meta["model"] == spec.name and record.meta["tag"] not in taken:
            # A record that cannot be used is reported by `invkit models`; it must not break the others.
            with contextlib.suppress(ArtifactError, DenoiserError):
                added.append(record.weights(spec))
    return replace(spec, weights=(*spec.weights, *added)) if added else spec


def remove(name: str, folder: Path | None = None) -> Path:
    """Delete added weights; their sidecar stays as `NAME.removed.json`, so the tag can name no other bytes later.

    Args:
        name: `MODEL.TAG`.
        folder: where they are; `models_folder()` by default.

    Returns:
        the file that was deleted.

    Raises:
        UnknownNameError: nothing was added under this name.
        ResourceError: the folder cannot be written.
    """
    records = {record.name: record for record in installed(folder)[0]}
    if name not in records:
        raise UnknownNameError(
            f"no weights {name!r} were added; there are: {', '.join(records) or 'none'}. "
            "Weights that a plugin provides are removed with the plugin"
        )
    path = records[name].path
    try:
        os.replace(path.with_suffix(".json"), tombstone(path))
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot remove {path}: {error.strerror or error}") from None
    return path


def tombstone(path: Path) -> Path:
    """Return where the sidecar of removed weights stands."""
    return path.with_name(path.name.removesuffix(".safetensors") + GONE)


def read_record(path: Path) -> Installed:
    """Return what a sidecar says.

    Raises:
        ArtifactError: it is damaged, or not that of added weights.
    """
    try:
        sidecar = json.loads(path.read_bytes())
        meta, sha256 = sidecar["meta"], sidecar["sha256"]
        texts = [meta[key] for key in ("source", "source_sha256", "trained_on", "license")]
        names = [meta["model"], meta["tag"]]
        affine(meta["preprocessing"])
        meta["upstream"]
        known = all(isinstance(text, str) for text in texts) and all(NAME.fullmatch(name) for name in names)
        known = known and path.name in (f"{'.'.join(names)}.json", f"{'.'.join(names)}{GONE}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DenoiserError):
        known = False
    if not known or not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ArtifactError(
            f"{path} cannot be used: it is not the record of added weights. Delete it, and add them again"
        )
    return Installed(path.with_name(f"{names[0]}.{names[1]}.safetensors"), sha256, meta)


def affine(described: Mapping[str, Any] | None) -> Affine | None:
    """Return the preprocessing that `Affine.describe` wrote; `None` for none.

    Raises:
        DenoiserError: it is of another kind.
    """
    if described is None:
        return None
    if described.get("kind") != "affine":
        raise DenoiserError(f"preprocessing {described} is not an affine map")
    return Affine(float(described["mean"]), float(described["std"]))
