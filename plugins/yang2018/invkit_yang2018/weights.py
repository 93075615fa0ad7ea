"""The weights that ship with this plugin."""

__all__ = ["WEIGHTS"]

import invkit

WEIGHTS: tuple[invkit.Weights, ...] = ()
