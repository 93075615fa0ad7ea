"""The VAE that analyses with `TINY_OPTIONS` and noise in the image need takes five seconds; it is trained once for all tests."""

from kept_phantoms import share
from small_network import TINY_OPTIONS

from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, learn_vae
from invkit.plugins.gather import gather

IMAGE_NOISE = {**TINY_OPTIONS, "train_noise": "image"}


def vae_file(place, tmp_path_factory):
    """Return the file of the low-dose VAE of `IMAGE_NOISE`, which is then in the cache of `place`, the fixture of this name."""
    share(place["cache"], ("vae",), tmp_path_factory)
    store = Store(place["host"], place["cache"])
    slices = gather(IMAGE_NOISE["train_data"], place["host"], 0, "image", store.root)
    return learn_vae(VaeRequest("low", slices, vae_preset("tiny"), IMAGE_NOISE["config"].dose, 0), store)


def with_vae(place, tmp_path_factory):
    """Return `place` when that VAE is in its cache."""
    vae_file(place, tmp_path_factory)
    return place
