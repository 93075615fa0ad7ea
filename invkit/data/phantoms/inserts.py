"""A body of soft tissue with inserts of known HU, as phantoms for quality assurance have them."""

__all__ = ["INSERTS", "Inserts", "draw_inserts"]

from dataclasses import dataclass

import numpy as np

INSERTS = {"air": -1000.0, "water": 0.0, "soft tissue": 40.0, "lung": -850.0, "bone": 700.0}  # HU
RIM = 5  # pixels from an edge that do not count


@dataclass(frozen=True)
class Inserts:
    """The phantom.

    Args:
        image: noise-free, `(128, 128)`, float32, HU.
        places: of each material, the pixels that lie well inside it, by its name.
    """

    image: np.ndarray
    places: dict[str, np.ndarray]


def draw_inserts() -> Inserts:
    """Return the phantom, always the same: 128 x 128 pixels, an ellipse of soft tissue with water, lung and bone in it."""
    side = np.arange(128) - 63.5
    rows, columns = side[:, None], side[None, :]
    radius = np.hypot(rows / 52, columns / 58)
    image = np.where(radius <= 1, INSERTS["soft tissue"], INSERTS["air"]).astype(np.float32)
    inside = np.hypot(rows / (52 - RIM), columns / (58 - RIM)) <= 1
    apart = np.full_like(inside, True)
    places: dict[str, np.ndarray] = {
        "air": (np.hypot(rows / (52 + RIM), columns / (58 + RIM)) > 1)
        & (np.maximum(abs(rows), abs(columns)) < 60)
    }
    for name, row, column, size in (("water", -14, -28, 15), ("lung", -14, 28, 15), ("bone", 26, 0, 13)):
        distance = np.hypot(rows - row, columns - column)
        image[distance <= size] = INSERTS[name]
        places[name] = distance <= size - RIM
        apart &= distance > size + RIM
    places["soft tissue"] = inside & apart
    return Inserts(image, places)
