"""What tests of several floors share."""

import os
from pathlib import Path

import pytest
from kept_phantoms import cache_with_phantoms
from small_network import Small, disc_image

from invkit.plugins.manager import PluginHost


@pytest.fixture(scope="session")
def real_ct():
    """The folder with the 16 slices of 8 patients that docs/bundled.md names; their licence is CC BY 4.0."""
    folder = os.environ.get("INVKIT_TEST_CT")
    if not folder:
        pytest.skip(
            "set INVKIT_TEST_CT to a folder with the CT slices of docs/bundled.md, which are not in git"
        )
    assert Path(folder).is_dir(), f"INVKIT_TEST_CT names {folder}, which is no folder"
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing is found in the cache of whoever runs the tests, and nothing is left there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVKIT_CACHE", str(cache_with_phantoms(tmp_path_factory)))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where trained parts are kept, and a host without installed plugins: options of `analyze`."""
    return {"cache": cache_with_phantoms(tmp_path_factory), "host": PluginHost(installed=False)}


@pytest.fixture(scope="module")
def network():
    """A small network with two convolutions."""
    return Small()


@pytest.fixture(scope="module")
def image():
    """An image of sides that are no multiple of anything."""
    return disc_image(50, 45)
