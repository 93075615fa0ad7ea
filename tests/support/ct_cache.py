"""What is in the folder of a cache, byte by byte."""

import json

SALT = "ab" * 32


def salted(folder):
    """A folder whose cache will have the same pseudonyms every time."""
    folder.mkdir()
    (folder / "salt").write_text(SALT)
    return folder


def contents(folder):
    """Every file of a cache and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def index_of(folder):
    return json.loads((folder / "index.json").read_text())
