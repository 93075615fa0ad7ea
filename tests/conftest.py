"""Where the CT slices are that tests marked `realdata` read."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data" / "tcia-covid-19-ny-sbu"


@pytest.fixture(scope="session")
def real_ct():
    """The folder with the 16 slices of 8 patients that docs/bundled.md names; their licence is CC BY 4.0."""
    folder = Path(os.environ.get("INVKIT_TEST_CT", BESIDE))
    if not folder.is_dir():
        pytest.skip(
            "set INVKIT_TEST_CT to a folder with the CT slices of docs/bundled.md, which are not in git"
        )
    return folder
