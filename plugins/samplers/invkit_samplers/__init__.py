"""Samplers for invkit beside the published method: each is a flow in another representation of images."""

from __future__ import annotations

__all__ = ["invkit_samplers"]

import invkit

SAMPLERS = {
    "wavelet": "a convolutional flow on a wavelet basis of the image itself",
    "spatial": "codes that are grids, and a convolutional flow of them",
    "conditional": "flat codes of what f(x) does not say, and a cINN",
    "residual": "a flow of x - f(x) on small tiles",
}


@invkit.hookimpl
def invkit_samplers() -> list[invkit.Sampler]:
    """Return the four of them; what they are made of is imported when an analysis asks for one."""
    return [
        invkit.Sampler(
            name,
            f"invkit_samplers.{name}.family:{name.title()}",
            description,
            domains=("low", "high"),
            experimental=True,
        )
        for name, description in SAMPLERS.items()
    ]
