"""The weights that ship with this plugin, by the size of the last kernel."""

__all__ = ["WEIGHTS"]

import invkit

WEIGHTS: dict[int, tuple[invkit.Weights, ...]] = {
    5: (),
    3: (),
}
