"""Phantoms and their simulated noise, which take ten seconds for twelve, are made once for all tests."""

import os


def cache_with_phantoms(tmp_path_factory):
    """Return a new cache that nothing was trained in, but which shares its phantoms with all others of this test run."""
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kept"
    folder = tmp_path_factory.mktemp("cache")
    for name in ("phantoms", "noise"):
        (kept / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(kept / name, target_is_directory=True)
    return folder
