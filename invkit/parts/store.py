"""Where trained parts are kept and found: bundled with a plugin, or in the user's cache, by what they were trained on."""

__all__ = ["Store"]

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from invkit.artifacts import cache_folder, fingerprint, read_sidecar
from invkit.errors import ArtifactError, ResourceError
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Artifact
from invkit.training.lock import exclusive
from invkit.training.processes.distributed import all_true, by_first


class Store:
    """Trained parts, content-addressed: the key is a fingerprint of everything that decided how a part came out.

    Args:
        host: the plugins, which can bring trained parts.
        root: cache folder; `None` for the default.
    """

    def __init__(self, host: PluginHost, root: Path | None = None) -> None:
        self.host = host
        self.root = root or cache_folder()

    @staticmethod
    def key(request: Mapping[str, Any]) -> str:
        """Return the fingerprint of a request (JSON values)."""
        return fingerprint(dict(request))

    def path(self, kind: str, key: str) -> Path:
        """Return where a part of this key is kept in the cache, whether it exists or not."""
        return self.root / kind / f"{key[:32]}.safetensors"

    def work(self, kind: str, key: str) -> Path:
        """Return the folder of an unfinished training of this key."""
        return self.root / "unfinished" / f"{kind}-{key[:32]}"

    def find(self, kind: str, key: str) -> tuple[Path, str | None] | None:
        """Return a part's file, and its known sha256 where a plugin states one; `None` where there is no such part.

        Raises:
            ArtifactError: a plugin brings it, but its file is missing.
        """
        for artifact in self.host.artifacts():
            if artifact.kind == kind and _key(artifact) == key:
                return artifact.locate(), artifact.sha256
        path = self.path(kind, key)
        return (path, None) if path.exists() and path.with_suffix(".json").exists() else None

    def keep(
        self,
        request: Mapping[str, Any],
        learn: Callable[[Path, str], Callable[[Path], object]],
        *,
        out: Path | None = None,
    ) -> Path:
        """Learn a part and keep it, unless another process has in the meantime; return its file.

        Processes of a group must all come: they learn it together, and rank 0 writes it for all.

        Args:
            request: what is wanted, JSON values; `"kind"` is the part's.
            learn: from the folder of its training and its key to what writes it.
            out: the file to write instead of the cache's own.

        Raises:
            ResourceError: it cannot be written, or the cache cannot.
        """
        kind, key = request["kind"], self.key(request)
        path, work = out or self.path(kind, key), self.work(kind, key)
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(work))
            except ResourceError as error:
                raise ResourceError(
                    f"{error}; the cache's folder is that of INVKIT_CACHE, or of `cache` in Python"
                ) from error
            # One process may not see yet what another one sees, and all must go the same way.
            if out is not None or not all_true(self.find(kind, key) is not None):
                write = learn(work, key)
                by_first(lambda: write(path))
        return path


def _key(artifact: Artifact) -> object:
    """Return the key in an artefact's provenance, from the plugin's record or else from the sidecar."""
    if "key" in artifact.meta:
        return artifact.meta["key"]
    try:
        return read_sidecar(artifact.locate())["meta"].get("key")
    except ArtifactError:
        # One broken artefact must not keep those of other plugins from being found.
        return None
