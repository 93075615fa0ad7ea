"""What takes seconds and no test trains is computed once for all tests: phantoms, their noise, and what is drawn of them."""

import os

PHANTOMS = ("phantoms", "noise")
MEASURED = ("real", "bank")  # traits of real images, means of the bank's patches


def cache_with_phantoms(tmp_path_factory, kinds=PHANTOMS + MEASURED):
    """Return a new cache that nothing was trained in, but which shares these kinds with all others of this test run."""
    base = tmp_path_factory.getbasetemp()
    kept = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kept"
    folder = tmp_path_factory.mktemp("cache")
    for name in kinds:
        (kept / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(kept / name, target_is_directory=True)
    return folder
