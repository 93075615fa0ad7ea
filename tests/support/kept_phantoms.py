"""What takes seconds and no test trains is computed once for all tests: phantoms, their noise, and what is drawn of them."""

import os

PHANTOMS = ("phantoms", "noise")
MEASURED = ("real", "bank")  # traits of real images, means of the bank's patches


def cache_with_phantoms(tmp_path_factory, kinds=PHANTOMS + MEASURED):
    """Return a new cache that nothing was trained in, but which shares these kinds with all others of this test run."""
    folder = tmp_path_factory.mktemp("cache")
    share(folder, kinds, tmp_path_factory)
    return folder


def share(cache, kinds, tmp_path_factory):
    """Let a cache have these kinds in common with all others of this test run."""
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kept"
    for name in kinds:
        (kept / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(kept / name, target_is_directory=True)
