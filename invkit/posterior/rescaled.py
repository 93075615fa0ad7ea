"""What hides from a layer if noise were weaker or stronger than it is taken to be."""

__all__ = ["FACTORS", "rescaled_spread"]

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from invkit.posterior.draws import sigma_for
from invkit.posterior.whitened import Whitened
from invkit.statistics.intervals import Interval
from invkit.tolerance.frame import LEAST_INTERIOR
from invkit.tolerance.layer import AROUND, TolerancedLayer
from invkit.training.precision import in_float64
from invkit.training.seeds import generator

FACTORS = {"hidden_half_hu": 0.5, "hidden_double_hu": 2.0}
WITHIN = 0.03  # relative residual: the ratio of two spreads then moves by less than a hundredth
PRODUCTS = 160


def rescaled_spread(
    spread: Interval | None, layers: Sequence[TolerancedLayer], *, seed: int
) -> Mapping[str, Interval | None]:
    """Return the spread of what a layer cannot tell from x for C times 0.5 and 2, the tolerance as it is.

    One draw of the linearised posterior for each factor, from the same random numbers as one for C itself, on a part of the image
    around its middle: their ratio is known much better than either. It multiplies the spread that was measured.

    Args:
        spread: for C itself, HU; `None` where there is none.
        layers: the layer at each image.
        seed: of the draws.

    Returns:
        By the names of `FACTORS`; `None` where there is no spread, or where the linear systems are too costly to be solved.
    """
    found = None if spread is None else _ratios(layers, seed)
    if spread is None or found is None:
        return dict.fromkeys(FACTORS)
    return {
        name: Interval(spread.value * ratio, spread.low * ratio, spread.high * ratio)
        for name, ratio in zip(FACTORS, found, strict=True)
    }


@torch.no_grad()
def _ratios(layers: Sequence[TolerancedLayer], seed: int) -> list[float] | None:
    """Return the spread for each factor over that for C itself; root mean squares over images."""
    total = torch.zeros(1 + len(FACTORS), dtype=torch.float64)
    for image, layer in enumerate(layers):
        squares = _squares(layer, generator(seed, "rescaled", image))
        if squares is None:
            return None
        total += squares
    return [float(ratio) for ratio in (total[1:] / total[0]).sqrt()]


def _squares(layer: TolerancedLayer, numbers: torch.Generator) -> Tensor | None:
    """Return the mean square of a draw for C and for each factor, `(1 + factors,)`, HU^2; `None` where it was not solved."""
    height, width = layer.frame.size
    margin = layer.frame.pixels or 0
    side = max(AROUND, 2 * margin + LEAST_INTERIOR)
    crops = layer.crops(torch.tensor([[height // 2, width // 2]]), side)
    scales = torch.tensor([1.0, *FACTORS.values()]).to(crops.images).view(-1, 1, 1, 1)
    covariance = crops.covariance.cropped(crops.covariance.deviation * scales.sqrt())
    at = Whitened(
        layer.split,
        crops.images.expand(len(scales), -1, -1, -1),
        crops.windows.unit,
        sigma_for(layer.tolerance, layer.windows.elements()),
        covariance,
        layer.tangent,
    )
    white = covariance.white(1, numbers)
    dual = tuple(torch.randn(s.shape, generator=numbers).to(s) for s in crops.windows.unit.s)
    right = white + at.transposed(tuple(part.expand(len(scales), *part.shape[1:]) for part in dual))
    solution = at.solve(right, within=WITHIN, at_most=PRODUCTS)
    if not bool((solution.residual <= WITHIN).all()):
        return None
    drawn = covariance.root(solution.x)
    rows, columns = (slice(margin, length - margin) for length in drawn.shape[-2:])
    return in_float64(drawn[..., rows, columns]).square().mean((1, 2, 3)).cpu()
