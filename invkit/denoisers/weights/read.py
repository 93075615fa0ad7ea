"""Trained weights of a denoiser: fetched from a package, a file or the web, checked, put into the network."""

__all__ = [
    "LARGEST",
    "download",
    "listed",
    "load_into",
    "provenance_of",
    "read_weights",
    "weights_provenance",
]

import hashlib
import http.client
import importlib.resources
import importlib.util
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from torch import Tensor, nn

from invkit.artifacts import cache_folder, write_atomic
from invkit.denoisers.spec import Weights
from invkit.errors import ArtifactError, DenoiserError

LARGEST = 4 * 2**30
CHUNK = 2**20
SHOWN = 5


def read_weights(
    weights: Weights, *, cache: Path | None = None, timeout: float = 30.0, deadline: float = 1800.0
) -> dict[str, Tensor]:
    """Return the tensors of trained weights, after their sha256 was checked; only safetensors is read.

    Args:
        weights: what to read.
        cache: folder for downloads; `cache_folder()` by default.
        timeout: seconds a server may stay silent.
        deadline: seconds a download may take.

    Raises:
        ArtifactError: missing, other bytes than promised, not safetensors, or the download failed.
        ResourceError: the cache cannot be written.
    """
    source = weights.source
    if source.startswith("package:"):
        data = _from_package(weights)
    elif "://" in source:
        data = _from_web(weights, cache or cache_folder(), timeout, deadline)
    else:
        data = _from_file(weights, Path(source).expanduser())
    try:
        return load_bytes(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"weights {weights.tag!r} ({source}) are not a safetensors file: {error}. Only safetensors is "
            "read, because other formats can run code"
        ) from None


def provenance_of(data: bytes) -> dict[str, Any]:
    """Return what invkit wrote into a safetensors file that it trained; nothing for any other file."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        meta = json.loads(header["__metadata__"]["invkit"])["meta"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def weights_provenance(weights: Weights) -> dict[str, Any]:
    """Return what invkit wrote into trained weights that lie on this machine; nothing for any others.

    Raises:
        ArtifactError: they are missing, or other bytes than promised.
    """
    if weights.source.startswith("package:"):
        return provenance_of(_from_package(weights))
    return {} if "://" in weights.source else provenance_of(_from_file(weights, Path(weights.source)))


def load_into(network: nn.Module, state: Mapping[str, Tensor], *, owner: str) -> None:
    """Put weights into a network in place; every name and shape must agree and every number must be finite.

    Raises:
        DenoiserError: the names or shapes differ, or a number is not finite; the network is as it was.
    """
    wanted = network.state_dict()
    faults = [
        listed("it lacks", wanted.keys() - state.keys()),
        listed("it has, but the network does not,", state.keys() - wanted.keys()),
        listed(
            "other shapes than the network has:",
            (
                f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
                for name in wanted.keys() & state.keys()
                if state[name].shape != wanted[name].shape
            ),
        ),
        listed("numbers that are not finite in", (name for name in state if not _finite(state[name]))),
    ]
    found = [fault for fault in faults if fault]
    if found:
        raise DenoiserError(f"the weights of {owner} do not fit its network: {'; '.join(found)}")
    network.load_state_dict(dict(state), strict=True)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all())


def listed(text: str, names: Iterable[str]) -> str:
    """Return a text with the first names of a set behind it, or nothing where there are none."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return f"{text} {', '.join(ordered[:SHOWN])}{more}" if ordered else ""


def _checked(weights: Weights, data: bytes) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise ArtifactError(
            f"weights {weights.tag!r} ({weights.source}) are not the expected file: their sha256 is {found}, expected "
            f"{weights.sha256}. Download the file again, or ask the author of the plugin"
        )
    return data


def _from_package(weights: Weights) -> bytes:
    package, _, inside = weights.source.removeprefix("package:").partition("/")
    parts = PurePosixPath(inside).parts
    if not package or not parts or ".." in parts or inside.startswith("/"):
        raise ArtifactError(
            f"weights {weights.tag!r}: {weights.source!r} is not of the form package:MODULE/path/in/it"
        )
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
        if found is not None and not found.submodule_search_locations:
            raise ArtifactError(
                f"weights {weights.tag!r} ({weights.source}): {package} is a single module, and no file can lie in it. Make it a "
                f"package: {package}/__init__.py, with the weights beside it"
            )
        data = importlib.resources.files(package).joinpath(*parts).read_bytes()
    except (ImportError, OSError) as error:
        raise ArtifactError(
            f"weights {weights.tag!r} ({weights.source}) are missing: {error}. Reinstall the plugin"
        ) from None
    return _checked(weights, data)


def _from_file(weights: Weights, path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise ArtifactError(f"weights {weights.tag!r}: {path} has {size} bytes, the limit is {LARGEST}")
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"weights {weights.tag!r}: cannot read {path}: {error.strerror or error}"
        ) from None
    return _checked(weights, data)


def _from_web(weights: Weights, cache: Path, timeout: float, deadline: float) -> bytes:
    path = cache / "weights" / f"{weights.sha256}.safetensors"
    if path.is_file():
        try:
            return _from_file(weights, path)
        except ArtifactError:
            # A damaged copy in the cache is ours to replace; a second mismatch is the server's and is raised.
            path.unlink(missing_ok=True)
    data = download(weights, timeout=timeout, deadline=deadline)
    write_atomic(path, data)
    return data


def download(weights: Weights, *, timeout: float = 30.0, deadline: float = 1800.0) -> bytes:
    """Return the bytes behind an https URL, after their sha256 was checked; nothing is kept.

    Args:
        weights: `source` and `sha256` say what and which bytes.
        timeout: seconds a server may stay silent.
        deadline: seconds a download may take.

    Raises:
        ArtifactError: no https, other bytes than promised, or the download failed.
    """
    _require_https(weights.source)
    try:
        request = urllib.request.Request(weights.source, headers={"User-Agent": "invkit"})
        with _opener().open(request, timeout=timeout) as response:
            data = _received(weights, response, time.monotonic() + deadline)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ArtifactError(f"weights {weights.tag!r}: cannot download {weights.source}: {reason}") from None
    return _checked(weights, data)


def _received(weights: Weights, response: http.client.HTTPResponse, until: float) -> bytes:
    announced = int(response.headers.get("Content-Length") or -1)
    parts: list[bytes] = []
    size = 0
    # read1 returns what one read of the socket gave, so a server that drips bytes meets the deadline.
    while part := response.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise ArtifactError(
                f"weights {weights.tag!r}: {weights.source} exceeds the limit of {LARGEST} bytes"
            )
        if time.monotonic() > until:
            raise ArtifactError(
                f"weights {weights.tag!r}: {weights.source} timed out after {size} bytes. Try again"
            )
    if announced not in (-1, size):
        raise ArtifactError(
            f"weights {weights.tag!r}: {weights.source} was cut off after {size} of {announced} bytes. Try "
            "again"
        )
    return b"".join(parts)


def _require_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise ArtifactError(f"weights are downloaded by https only, got {url}. Give an https URL or a file")


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_HttpsRedirects)
