"""One refinement that stops at every epsilon on its way: what each tolerance leaves of the same samples."""

__all__ = ["refine_path"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.distance import Activation
from invkit.fiber.refine import Certificates, Refined, refine
from invkit.fiber.tangent import Tangent


def refine_path(
    phi: Callable[[Tensor], Activation],
    phi_grad: Callable[[Tensor], Activation],
    images: Tensor,
    z: Activation,
    epsilons: Sequence[float],
    tangent: Tangent | None = None,
) -> Iterator[Refined]:
    """Yield the samples at each epsilon, each refined from where the one before was reached.

    Every certificate tells of the whole way from the proposal: its distance, how far the image was moved, steps and products.

    Args:
        phi: the layer, without gradient.
        phi_grad: the same, differentiable with respect to the image.
        images: proposals, `(N, 1, H, W)`, HU.
        z: the activation whose fiber is sought, `(1, ...)`.
        epsilons: falling, units of the activation.
        tangent: of `phi_grad`, where it was traced before.

    Raises:
        InputError: the epsilons do not fall.
        SplitError: no gradient of the layer reaches the image.
    """
    if any(later >= earlier for earlier, later in pairwise(epsilons)):
        raise InputError(f"a refinement path needs decreasing epsilons, got {list(epsilons)}")
    start: Certificates | None = None
    reached = images
    tangent = tangent or Tangent(phi_grad)
    for epsilon in epsilons:
        found = refine(phi, phi_grad, reached, z, epsilon, tangent=tangent)
        certificates, reached = found.certificates, found.images
        if start is not None:
            certificates = replace(
                certificates,
                before=start.before,
                moved=(reached - images).flatten(1).square().mean(1).sqrt(),
                steps=certificates.steps + start.steps,
                products=certificates.products + start.products,
            )
        start = certificates
        yield Refined(reached, certificates)
