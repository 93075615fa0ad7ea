"""Products with the Jacobian of Phi as graphs, traced once: what depends on the image alone, and what on the vector."""

__all__ = ["Products", "Tangent", "differentiable"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functionalize
from torch.nn.attention import SDPBackend, sdpa_kernel

from invkit.fiber.distance import Activation, parts_of
from invkit.fiber.tangent_graph import Graphs, out_of_place, parted, plain, writes
from invkit.fiber.trace import traced

Parts = tuple[Tensor, ...]
AGREE = 1e-3  # of what was traced with torch's own, relative


@dataclass(frozen=True)
class Products:
    """J of Phi at a batch of images.

    Args:
        forward: p to J p, from the shape of the images to those of the activation.
        transposed: q to J^T q, the other way round.
    """

    forward: Callable[[Tensor], Parts]
    transposed: Callable[[Parts], Tensor]


class Tangent:
    """Products with J at any image without a new trace for each, J p and J^T q at about the cost of one evaluation of Phi.

    J^T q is a backward pass, and J p its derivative with respect to q. Both are traced together on one image of each shape,
    and held against autograd on another. What cannot be traced, because it changes tensors that outlive it or looks at
    values, is not done here.

    Args:
        phi: a differentiable map from images `(N, 1, H, W)` in HU to an activation.
    """

    def __init__(self, phi: Callable[[Tensor], Activation]) -> None:
        self._phi = phi
        self._graphs: dict[tuple[int, ...], Graphs | None] = {}

    def at(self, x: Tensor) -> Products | None:
        """Return the products at images `(N, 1, H, W)`, or `None` where Phi cannot be traced."""
        shape = tuple(x.shape)
        if shape not in self._graphs:
            self._graphs[shape] = self._traced(x)
        graphs = self._graphs[shape]
        return None if graphs is None else _products(graphs, x)

    def _traced(self, x: Tensor) -> Graphs | None:
        """Return the graphs for images of this shape; `None` where a trace cannot be had or trusted."""
        try:
            at, z = differentiable(self._phi, x)
            q = tuple(part.detach() - part.detach().mean() for part in z)
            (expected,) = torch.autograd.grad(z, at, q)
            graphs = self._graphs_like(x, q)
            return graphs if graphs is not None and _agree(_products(graphs, x), x, q, expected) else None
        except Exception:
            # A tracer fails in many ways, and none of them is the user's concern: there is another way.
            return None

    def _graphs_like(self, x: Tensor, q: Parts) -> Graphs | None:
        # Another image than the one that they are tried on: so it is found out where one was taken for a constant.
        inputs = (0.5 * x.flip(-1), x.mean() - x, *q)
        with torch.no_grad():
            graph = traced(self._both, *inputs)
            out_of_place(graph.graph)
            graph.recompile()
            if any(writes(node) for node in graph.graph.nodes):
                # Again, with every other change as a new tensor.
                graph = traced(functionalize(graph, remove="mutations_and_views"), *inputs)
        if any(writes(node) for node in graph.graph.nodes):
            return None
        plain(graph.graph)
        graphs = parted(graph)
        # What the two products change would be the image's.
        return None if any(writes(node) for part in graphs[1:] for node in part.graph.nodes) else graphs

    def _both(self, x: Tensor, p: Tensor, *q: Tensor) -> Parts:
        """Return J^T q, then J p."""
        at, z = differentiable(self._phi, x)
        dual = tuple(part.detach().requires_grad_() for part in q)
        with torch.enable_grad():
            (transposed,) = torch.autograd.grad(z, at, dual, create_graph=True)
        forward = torch.autograd.grad(transposed, dual, p, materialize_grads=True)
        return transposed.detach(), *(part.detach() for part in forward)


def differentiable(phi: Callable[[Tensor], Activation], x: Tensor) -> tuple[Tensor, Parts]:
    """Return images of their own and Phi of them with its graph, which can be differentiated twice."""
    at = x.detach().requires_grad_()
    # The fused kernels of attention cannot.
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        z = phi(at)
    return at, parts_of(z)


def _products(graphs: Graphs, x: Tensor) -> Products:
    of_image, of_p, of_q = graphs
    with torch.no_grad():
        with_p, with_q = of_image(x)

    def forward(p: Tensor) -> Parts:
        with torch.no_grad():
            found: Parts = of_p(p, *with_p)
        return found

    def transposed(q: Parts) -> Tensor:
        with torch.no_grad():
            found: Tensor = of_q(*q, *with_q)[0]
        return found

    return Products(forward, transposed)


def _agree(products: Products, x: Tensor, q: Parts, expected: Tensor) -> bool:
    """Tell whether J^T q is as expected, and J p its adjoint."""
    p = x - x.mean()
    transposed, forward = products.transposed(q), products.forward(p)
    same = float((transposed - expected).norm()) <= AGREE * float(expected.norm())
    inner = sum(float((a * b).sum()) for a, b in zip(forward, q, strict=True))
    scale = sum(float(a.norm() * b.norm()) for a, b in zip(forward, q, strict=True))
    return same and abs(inner - float((expected * p).sum())) <= AGREE * scale
