"""Trained files on disk: safetensors beside a JSON sidecar that holds their sha256 and provenance.

A safetensors file has no checksum of its own, so a flipped bit loads as other numbers. Every file written here therefore
has a sidecar `NAME.json` with the sha256 of its bytes, and is refused where the two disagree.
"""

__all__ = [
    "InParts",
    "Stored",
    "cache_folder",
    "fingerprint",
    "kept",
    "load",
    "read_sidecar",
    "remove_unfinished",
    "save",
    "save_in_parts",
    "sha256_file",
    "state_fingerprint",
    "write_atomic",
]

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

from invkit.errors import ArtifactError, ResourceError, UsageError

SCHEMA = "invkit.artifact/1"
MODE = 0o644
DTYPES = {
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class InParts(Protocol):
    """A tensor that is made a part at a time, along its first axis."""

    @property
    def shape(self) -> Sequence[int]:
        """Of the whole."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the whole."""

    def parts(self) -> Iterator[torch.Tensor]:
        """Yield it from first to last."""


@dataclass(frozen=True)
class Stored:
    """One artefact read from disk: its tensors, kind, provenance and the sha256 of the file."""

    kind: str
    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]
    sha256: str
    path: Path

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one part, those whose names begin with `name.`, without that."""
        start = f"{name}."
        return {
            key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)
        }

    def require(self, wanted: Mapping[str, Any]) -> None:
        """Refuse what was trained for something else.

        Raises:
            ArtifactError: the provenance differs from `wanted` in one of its fields.
        """
        differing = [name for name in wanted if self.meta.get(name) != wanted[name]]
        if differing:
            raise ArtifactError(
                f"{self.path} was trained for something else: its {', '.join(differing)} differ. Train it again"
            )


def cache_folder() -> Path:
    """Return where trained parts and downloads are kept: the environment variable `INVKIT_CACHE`, else `~/.cache/invkit`.

    Raises:
        ResourceError: there is neither the variable nor a home folder.
    """
    named = os.environ.get("INVKIT_CACHE")
    try:
        return Path(named) if named else Path.home() / ".cache" / "invkit"
    except RuntimeError:
        raise ResourceError(
            "there is no home folder to store files in; set INVKIT_CACHE to a folder"
        ) from None


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary name in the same folder, are synced to disk, and are then moved into place.

    Raises:
        ResourceError: the folder cannot be written or the disk is full; `path` is as it was.
    """
    with _replacing(path) as stream:
        stream.write(data)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that takes the place of `path` once it was written to its end without an error."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), MODE)  # mkstemp's own lets nobody else read, not even a shared report
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another folder; nothing was changed"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def remove_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder and those below it, where nobody writes any more."""
    for path in folder.rglob(".*.????????"):
        if path.is_file():
            path.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Return the sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def state_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Return one sha256 over the names, dtypes, shapes and bytes of a state dict; the order of names does not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, tensors: Mapping[str, torch.Tensor], *, kind: str, meta: Mapping[str, Any]) -> str:
    """Write tensors and provenance to `path` (`.safetensors`) and `path` with suffix `.json`; return the file's sha256.

    The provenance stands in both files. Both are written atomically, the sidecar last, so a file without a
    matching sidecar is one whose writing was cut short.

    Raises:
        UsageError: `path` ends in `.json`, which is the sidecar's name.
        ResourceError: it cannot be written.
    """
    if path.suffix == ".json":
        raise UsageError(f"{path} would be its own sidecar. Give it the suffix .safetensors")
    # As it will be read back: keys are strings, tuples are lists.
    plain = json.loads(json.dumps(dict(meta), allow_nan=False))
    data = save_bytes(_separate(tensors), {"invkit": _provenance(kind, plain)})
    sha256 = hashlib.sha256(data).hexdigest()
    sidecar = {"schema": SCHEMA, "kind": kind, "sha256": sha256, "meta": plain}
    write_atomic(path, data)
    write_atomic(path.with_suffix(".json"), json.dumps(sidecar, sort_keys=True, indent=1).encode())
    return sha256


def save_in_parts(
    path: Path, tensors: Mapping[str, torch.Tensor | InParts], *, kind: str, meta: Mapping[str, Any]
) -> str:
    """Write as `save` does, a part of each tensor at a time, so that none of them need be in memory as a whole.

    Args:
        path: as for `save`.
        tensors: whole or in parts.
        kind: as for `save`.
        meta: as for `save`.

    Raises:
        ResourceError: it cannot be written.
    """
    plain = json.loads(json.dumps(dict(meta), allow_nan=False))
    header: dict[str, Any] = {"__metadata__": {"invkit": _provenance(kind, plain)}}
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    end = 0
    for name in names:
        shape, dtype = list(tensors[name].shape), tensors[name].dtype
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with _replacing(path) as stream:
        for data in _contents(len(text).to_bytes(8, "little") + text, [tensors[name] for name in names]):
            digest.update(data)
            stream.write(data)
        assert stream.tell() == 8 + len(text) + end
    sha256 = digest.hexdigest()
    sidecar = {"schema": SCHEMA, "kind": kind, "sha256": sha256, "meta": plain}
    write_atomic(path.with_suffix(".json"), json.dumps(sidecar, sort_keys=True, indent=1).encode())
    return sha256


def _contents(head: bytes, tensors: Iterable[torch.Tensor | InParts]) -> Iterator[bytes | memoryview]:
    yield head
    for tensor in tensors:
        for part in [tensor] if isinstance(tensor, torch.Tensor) else tensor.parts():
            plain = part.detach().cpu().contiguous().reshape(-1)
            yield plain.view(torch.uint8).numpy().data


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return the sidecar of an artefact (`schema`, `kind`, `sha256`, `meta`) without reading its tensors.

    Raises:
        ArtifactError: it is missing, not JSON, or of a schema this version does not know.
    """
    sidecar_path = path.with_suffix(".json")
    try:
        sidecar = json.loads(sidecar_path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(
            f"{path} has no sidecar {sidecar_path.name}: it was not written completely. Delete it and train again"
        ) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {sidecar_path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{sidecar_path} is not valid JSON ({error}). Delete it and train again"
        ) from None
    if not isinstance(sidecar, dict) or sidecar.get("schema") != SCHEMA:
        found = sidecar.get("schema") if isinstance(sidecar, dict) else type(sidecar).__name__
        raise ArtifactError(f"{sidecar_path} has schema {found!r}, this version reads {SCHEMA!r}")
    if not (
        isinstance(sidecar.get("kind"), str)
        and re.fullmatch(r"[0-9a-f]{64}", str(sidecar.get("sha256")))
        and isinstance(sidecar.get("meta"), dict)
    ):
        raise ArtifactError(f"{sidecar_path} lacks a usable kind, sha256 or meta. Delete it and train again")
    return sidecar


def load(path: Path, *, kind: str, sha256: str | None = None) -> Stored:
    """Read an artefact and check it bit for bit against its sidecar, and against `sha256` where one is given.

    Raises:
        ArtifactError: missing, changed by a single bit (tensors or provenance), not safetensors, or of
            another kind.
    """
    sidecar = read_sidecar(path)
    if sidecar["kind"] != kind:
        raise ArtifactError(f"{path} is of kind {sidecar['kind']!r}, wanted {kind!r}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from None
    found = hashlib.sha256(data).hexdigest()
    for wanted in (sidecar["sha256"], sha256):
        if wanted is not None and wanted != found:
            raise ArtifactError(
                f"{path} was changed: its sha256 is {found}, its provenance says {wanted}. "
                "Delete it and train or download it again"
            )
    try:
        tensors = load_bytes(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        stated = header.get("__metadata__", {}).get("invkit")
        wanted = _provenance(kind, sidecar["meta"])
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a safetensors file with its provenance: {error}") from None
    # The file's own copy is covered by its sha256, the sidecar is not.
    if stated != wanted:
        raise ArtifactError(
            f"the sidecar of {path} was changed: its provenance differs from that of the file itself. "
            "Delete both and train or download again"
        )
    return Stored(kind=kind, tensors=tensors, meta=sidecar["meta"], sha256=found, path=path)


def kept(
    folder: Path | None, request: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return what was computed for this request before, or compute it now and keep it: that saves time, and nothing else.

    What is damaged is computed anew, and where nothing can be written nothing is kept.

    Args:
        folder: a folder in it, named for the kind, holds the files; nothing is kept for `None`.
        request: everything that decides the outcome, JSON values; `"kind"` names what it is.
        compute: gives the tensors.
    """
    if folder is None:
        return compute()
    kind, key = request["kind"], fingerprint(dict(request))
    path = folder / kind / f"{key[:32]}.safetensors"
    with contextlib.suppress(ArtifactError):
        return load(path, kind=kind).tensors
    tensors = compute()
    with contextlib.suppress(ResourceError):
        save(path, tensors, kind=kind, meta={**request, "key": key})
    return tensors


def _provenance(kind: str, meta: Mapping[str, Any]) -> str:
    return json.dumps({"schema": SCHEMA, "kind": kind, "meta": meta}, sort_keys=True)


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors on the CPU, none of which shares memory with another: safetensors refuses tied weights."""
    separate: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return separate
