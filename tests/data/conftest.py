"""Simulated patients in the layout of a public data set, and a cache of them."""

import pytest
from ct_layouts import write_tcia

from invkit.data.prepare.prepare import prepare


@pytest.fixture
def tcia(tmp_path):
    return write_tcia(tmp_path / "tcia", slices=2)


@pytest.fixture
def cache(tcia, tmp_path):
    prepare([tcia], tmp_path / "cache")
    return tmp_path / "cache"
