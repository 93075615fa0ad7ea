"""A workshop whose parts are trained in seconds."""

from small_network import TINY

from invkit.parts.store import Store
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import gather


def small_workshop(place, config=TINY, *, seed=0, say=lambda _: None):
    """Return what parts are trained in and found in.

    Args:
        place: `cache` and `host`, as the fixture of this name has them.
        config: of what is trained for a layer.
        seed: decides every random number.
        say: called with one line for each part.
    """
    store = Store(place["host"], place["cache"])
    slices = gather(["phantoms:12"], place["host"], 0, "image", store.root)
    return Workshop(store, slices, False, config, "tiny", seed, "cpu", say=say)
