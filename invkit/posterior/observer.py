"""What the ideal linear observer of a layer still detects of a structure, compared with that of the image."""

__all__ = ["Detectability", "detectability"]

from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.noise.solve import dot
from invkit.posterior.whitened import Whitened

WITHIN = 1e-2  # relative residual; the error of what is lost is of its second order
PRODUCTS = 300


@dataclass(frozen=True)
class Detectability:
    """Of N structures.

    Args:
        in_image: d'_x, of the observer of the image, `(N,)`, float64.
        in_layer: d'_l, of the observer of z at the tolerance, `(N,)`, float64.
        missing: 1 - (d'_l / d'_x)^2, `(N,)`, float64.
        residual: relative residual of the linear systems, the largest.
        products: pairs of products with J and its transpose.
    """

    in_image: Tensor
    in_layer: Tensor
    missing: Tensor
    residual: float
    products: int

    @property
    def converged(self) -> bool:
        """Whether the systems were solved; where they were not, too much seems to be kept."""
        return self.residual <= WITHIN

    @property
    def kept(self) -> Tensor:
        """d'_l / d'_x, `(N,)`."""
        return self.in_layer / self.in_image

    @property
    def lost(self) -> Tensor:
        """1 - d'_l / d'_x, `(N,)`, without cancellation."""
        return self.missing / (1 + self.kept)


@torch.no_grad()
def detectability(at: Whitened, structures: Tensor) -> Detectability:
    """Return what ideal linear observers see of structures d added to the image.

    With v = A^-1 d, d'_x^2 = |v|^2, and d'_l^2 = (J d)^T (J C J^T + sigma^2 S^2)^-1 J d = |v|^2 - v^T (I + G^T G)^-1 v (the
    identity of Woodbury), in which nothing cancels where little is lost.

    Args:
        at: the layer, linearised at N images.
        structures: d, `(N, 1, H, W)`, HU, small enough for the layer to be linear.
    """
    white = at.covariance.whitened(structures)
    solution = at.solve(white, within=WITHIN, at_most=PRODUCTS)
    whole, lost = dot(white, white), dot(white, solution.x)
    return Detectability(
        whole.sqrt(),
        (whole - lost).clamp(min=0).sqrt(),
        (lost / whole).clamp(0, 1),
        float(solution.residual.max()),
        solution.products,
    )
