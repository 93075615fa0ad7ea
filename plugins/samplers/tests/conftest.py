"""What the tests of these samplers share: a small denoiser, an image, and a host that knows the samplers."""

import invkit_samplers
import pytest
from kept_phantoms import cache_with_phantoms
from small_network import Small, disc_image

from invkit import PluginHost


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where trained parts are kept, and a host with the built-ins and these samplers: options of `analyze`."""
    host = PluginHost(installed=False)
    host.add_object(invkit_samplers)
    return {"cache": cache_with_phantoms(tmp_path_factory), "host": host}


@pytest.fixture(scope="module")
def network():
    """A small network with two convolutions."""
    return Small()


@pytest.fixture(scope="module")
def image():
    """An image of sides that are no multiple of anything."""
    return disc_image(50, 45)
