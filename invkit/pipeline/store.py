"""Where trained parts are kept and found: bundled with a plugin, or in the user's cache, by what they were trained on."""

__all__ = ["Store"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invkit.artifacts import fingerprint, read_sidecar
from invkit.denoisers.weights import cache_folder
from invkit.plugins.manager import PluginHost


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
        """Return a part's file, and its known sha256 where a plugin states one; `None` where there is no such part."""
        for artifact in self.host.artifacts():
            if artifact.kind != kind:
                continue
            path = artifact.locate()
            if read_sidecar(path)["meta"].get("key") == key:
                return path, artifact.sha256
        path = self.path(kind, key)
        return (path, None) if path.exists() and path.with_suffix(".json").exists() else None
