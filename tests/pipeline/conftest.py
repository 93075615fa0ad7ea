"""What the tests of whole analyses share: where parts are kept, and what is analysed."""

import pytest
from small_network import Small, disc_image

from invkit.plugins.manager import PluginHost


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return {"cache": tmp_path_factory.mktemp("cache"), "host": PluginHost(installed=False)}


@pytest.fixture(scope="module")
def network():
    return Small()


@pytest.fixture(scope="module")
def image():
    return disc_image(50, 45)
