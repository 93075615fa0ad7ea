"""The forward-mode derivative of Phi as two graphs, traced once: what depends on the image alone, and what on the direction."""

__all__ = ["Tangent"]

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from invkit.errors import DenoiserError
from invkit.fiber.distance import Activation
from invkit.fiber.tangent_graph import Graphs, out_of_place, parted, plain, writes

Product = Callable[[Tensor], tuple[Tensor, ...]]
AGREE = 1e-3  # of the traced product with torch's own, relative


class Tangent:
    """J p at any image and in any direction, without a new trace for each image (`torch.func.linearize` makes one).

    A product then costs as much as one evaluation of Phi, against three by `torch.func.jvp`. What cannot be traced, because
    it changes tensors that outlive it or looks at values, is left to `jvp`; what has no forward-mode rule is not done here.

    Args:
        phi: a differentiable map from images `(N, 1, H, W)` in HU to an activation.
    """

    def __init__(self, phi: Callable[[Tensor], Activation]) -> None:
        self._phi = phi
        self._graphs: dict[tuple[int, ...], Graphs | None] = {}

    def at(self, x: Tensor) -> Product | None:
        """Return p -> J p at images `(N, 1, H, W)`, or `None` where torch has no forward-mode rule for an operation."""
        shape = tuple(x.shape)
        try:
            if shape not in self._graphs:
                self._graphs[shape] = self._traced(x)
            graphs = self._graphs[shape]
            if graphs is None:
                return lambda p: _derivative(self._phi, x, p)
            primal, tangent = graphs
            with torch.no_grad():
                constants = primal(x)
        except (RuntimeError, NotImplementedError, DenoiserError):
            # The first two are torch's for operations without a derivative; what a network raises comes as the last.
            return None

        def product(p: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad():
                found: tuple[Tensor, ...] = tangent(p, *constants)
            return found

        return product

    def _traced(self, x: Tensor) -> Graphs | None:
        """Return the two graphs for images of this shape; `None` where a trace cannot be had or trusted."""
        direction = x - x.mean()
        expected = _derivative(self._phi, x, direction)
        try:
            with warnings.catch_warnings(), torch.no_grad():
                # The tracer warns of constants that it keeps itself.
                warnings.simplefilter("ignore", UserWarning)
                graph = make_fx(lambda a, b: _derivative(self._phi, a, b))(x, direction)
                out_of_place(graph.graph)
                graph.recompile()
                if any(writes(node) for node in graph.graph.nodes):
                    # Again, with every other change as a new tensor.
                    graph = make_fx(functionalize(graph, remove="mutations_and_views"))(x, direction)
            if any(writes(node) for node in graph.graph.nodes):
                return None
            plain(graph.graph)
            primal, tangent = parted(graph)
            if any(writes(node) for node in tangent.graph.nodes):
                return None  # what it changes is the other graph's
            with torch.no_grad():
                found = tangent(direction, *primal(x))
        except Exception:
            # A tracer fails in many ways, and none of them is the user's concern: there is another way.
            return None
        apart = sum(float((a - b).square().sum()) for a, b in zip(found, expected, strict=True))
        size = sum(float(part.square().sum()) for part in expected)
        return (primal, tangent) if apart <= AGREE**2 * size else None


def _derivative(phi: Callable[[Tensor], Activation], x: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    # The fused kernels of attention have no forward-mode rule.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        z = phi(forward_ad.make_dual(x, p))
        parts = z if isinstance(z, tuple) else (z,)
        duals = [forward_ad.unpack_dual(part) for part in parts]  # nor this
    return tuple(
        torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent.detach() for dual in duals
    )
