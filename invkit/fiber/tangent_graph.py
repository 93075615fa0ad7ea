"""What a traced derivative is freed of, and where it is cut in two: what depends on the image, and what on the direction."""

__all__ = ["Graphs", "out_of_place", "parted", "plain", "writes"]

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
Graphs = tuple[fx.GraphModule, fx.GraphModule, fx.GraphModule]

ZEROS = (
    aten.zeros.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten._efficientzerotensor.default,
)
# These give what they are given, where shape and type stay.
HANDING_ON = (
    aten.alias.default,
    aten.alias_copy.default,
    aten.detach.default,
    aten.detach_copy.default,
    aten.expand.default,
    aten.expand_copy.default,
    aten._to_copy.default,
)
# Of zeros these make zeros.
KEEPING = (
    *HANDING_ON,
    aten.clone.default,
    aten.view.default,
    aten.view_copy.default,
    aten._unsafe_view.default,
    aten.permute.default,
    aten.permute_copy.default,
    aten.transpose.int,
    aten.transpose_copy.int,
    aten.t.default,
    aten.t_copy.default,
    aten.unsqueeze.default,
    aten.unsqueeze_copy.default,
    aten.squeeze.dim,
    aten.squeeze_copy.dim,
    aten.neg.default,
)
FRESH = (aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default)
PRODUCTS = (aten.mul.Tensor, aten.mm.default, aten.bmm.default)
SUMS = (aten.add.Tensor, aten.sub.Tensor)


def plain(graph: fx.Graph) -> None:
    """Take out of a traced derivative what adds nothing to it: terms that are 0 for all images, copies, what is never used.

    The derivative with respect to weights, whose directions are 0, is traced as a second convolution for each one of the network,
    and its result is added; and sizes are compared, for which activations would be kept.
    """
    output = next(node for node in graph.nodes if node.op == "output")
    zero: set[fx.Node] = set()
    for node in list(graph.nodes):
        if _is_zero(node, zero):
            zero.add(node)
        elif node.target in SUMS:
            first, second = node.args[:2]
            if second in zero:
                _replace(node, first)
            elif first in zero and node.target is aten.add.Tensor and not node.kwargs:
                _replace(node, second)
        elif node.target is aten.copy.default:
            _replace(node, node.args[1])
        elif node.target in HANDING_ON and output not in node.users:
            # A result is a tensor of its own.
            _replace(node, node.args[0])
    graph.eliminate_dead_code()


def _is_zero(node: fx.Node, zero: set[fx.Node]) -> bool:
    target, args = node.target, node.args
    if target in ZEROS:
        return True
    if target in KEEPING:
        return args[0] in zero
    if target in PRODUCTS:
        return args[0] in zero or args[1] in zero
    if target in SUMS:
        return args[0] in zero and args[1] in zero
    if target is aten.convolution.default:
        x, weight, bias = args[:3]
        return (x in zero or weight in zero) and (bias is None or bias in zero)
    if target is aten.addmm.default:
        return args[0] in zero and (args[1] in zero or args[2] in zero)
    return False


def _replace(node: fx.Node, other: object) -> None:
    """Put a node in the place of one that equals it, where both are of one shape, type and device."""
    if not isinstance(other, fx.Node):
        return
    like = node.meta.get("like")
    if like is not None and like == other.meta.get("like"):
        node.replace_all_uses_with(other)


def writes(node: fx.Node) -> bool:
    """Tell whether a node changes a tensor that anything but the node itself may see."""
    if not _is_in_place(node):
        return False
    changed = node.args[0] if node.args else None
    if not isinstance(changed, fx.Node) or list(changed.users) != [node]:
        return True
    return changed.target not in FRESH and (not _is_in_place(changed) or writes(changed))


def _is_in_place(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def out_of_place(graph: fx.Graph) -> None:
    """Put a new tensor in the place of each change, where the graph made what is changed and none of its nodes gives a view of it.

    This is what in-place activations come to. `torch.func.functionalize` does it for every change, and traces the graph once more.
    """
    for node in list(graph.nodes):
        changed = node.args[0] if node.args else None
        if not (_is_in_place(node) and isinstance(changed, fx.Node) and _gives_memory(changed)):
            continue
        others = [user for user in changed.users if user is not node]
        pure = _pure(node.target)
        if pure is None or not all(_gives_memory(user) or user.op == "output" for user in others):
            continue
        with graph.inserting_before(node):
            new = graph.call_function(pure, node.args, node.kwargs)
        new.meta = dict(node.meta)
        for user in others:
            if user > node:
                user.replace_input_with(changed, new)
        node.replace_all_uses_with(new)
        graph.erase_node(node)


def _pure(target: Any) -> Any:
    """Return the operation that gives what this one writes, or `None`; `relu` for `relu_`."""
    packet, _, overload = target.__name__.partition("_.")
    return getattr(getattr(aten, packet, None), overload or "none", None)


def _gives_memory(node: fx.Node) -> bool:
    """Tell whether a node certainly gives a tensor that shares its memory with no other."""
    target: Any = node.target
    if target is operator.getitem:  # one of several results
        source: Any = node.args[0]
        same = [user for user in source.users if user.args[1] == node.args[1]]
        return _gives_memory(source) and same == [node]
    if target is aten._unsafe_view.default:  # its schema does not say that it gives a view
        return False
    schema = getattr(target, "_schema", None)
    if schema is None:
        return False
    return not schema.is_mutable and all(result.alias_info is None for result in schema.returns)


def parted(traced: fx.GraphModule) -> Graphs:
    """Cut a graph of (x, p, *q) that gives (J^T q, *J p) in three: of x, of p, and of q.

    The first gives what the others need of the image, as two tuples; these are what the others are given after p, and after q.

    Raises:
        ValueError: something depends on p and on q.
    """
    nodes = list(traced.graph.nodes)
    _, p, *q = [node for node in nodes if node.op == "placeholder"]
    (output,) = [node for node in nodes if node.op == "output"]
    transposed, *forward = output.args[0]
    with_p, with_q = _moved(nodes, [p]), _moved(nodes, q)
    if with_p & with_q:
        raise ValueError("a product with J depends on what the other one is of")
    needed = [
        _needed(nodes, moved, results) for moved, results in ((with_p, forward), (with_q, [transposed]))
    ]
    first = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        if node not in with_p | with_q and node is not output:
            copies[node] = first.node_copy(node, lambda source: copies[source])
    first.output(tuple(tuple(copies[node] for node in each) for each in needed))
    first.eliminate_dead_code()
    second = _of_vectors(nodes, [p], with_p, needed[0], forward)
    third = _of_vectors(nodes, q, with_q, needed[1], [transposed])
    return fx.GraphModule(traced, first), fx.GraphModule(traced, second), fx.GraphModule(traced, third)


def _moved(nodes: Sequence[fx.Node], vectors: Sequence[fx.Node]) -> set[fx.Node]:
    """Return all nodes that depend on vectors."""
    moved = set(vectors)
    for node in nodes:
        if node.op != "output" and not moved.isdisjoint(node.all_input_nodes):
            moved.add(node)
    return moved


def _needed(nodes: Sequence[fx.Node], moved: set[fx.Node], results: Sequence[fx.Node]) -> list[fx.Node]:
    """Return the nodes that do not move and that those which do, or the results, are made of."""
    used = {source for node in moved for source in node.all_input_nodes} | set(results)
    return [node for node in nodes if node in used - moved]


def _of_vectors(
    nodes: Sequence[fx.Node],
    vectors: Sequence[fx.Node],
    moved: set[fx.Node],
    needed: Sequence[fx.Node],
    results: Sequence[fx.Node],
) -> fx.Graph:
    """Return the graph of (*vectors, *needed) that gives the results."""
    graph = fx.Graph()
    copies = {node: graph.placeholder(f"vector_{number}") for number, node in enumerate(vectors)}
    copies |= {node: graph.placeholder(f"constant_{number}") for number, node in enumerate(needed)}
    for node in nodes:
        if node in moved and node not in copies:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
    graph.output(tuple(copies[node] for node in results))
    return graph
