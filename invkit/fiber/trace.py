"""The operations that a function of tensors comes to, as a graph, without torch's compiler, whose import takes seconds."""

__all__ = ["traced"]

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

# Results of these decide what a program does next, or the shapes that follow; a graph would decide as it did once.
LOOKS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


def traced(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> fx.GraphModule:
    """Return a graph of the operations below autograd that a function runs on inputs of these shapes.

    Tensors that are neither inputs nor made of them, such as weights, are held as they are. The graph is that of this one run:
    conditions in Python are decided, and sizes are numbers. `meta["like"]` of a node is the shape, type and device of its tensor.

    Raises:
        RuntimeError: the function looks at values that depend on its inputs.
    """
    recorder = _Recorder(inputs)
    with recorder:
        results = function(*inputs)
    recorder.graph.output(tuple(recorder.node(result) for result in results))
    return fx.GraphModule(recorder.constants, recorder.graph)


# Torch gives the classes below no types: hence what mypy is told to ignore.
class _Recorder(TorchDispatchMode):
    """Writes down each operation, and which node gave which tensor; holds no tensor but the constants."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch's own switch: otherwise the first operation imports torch's compiler.
        return False

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.constants = nn.Module()
        self._nodes: Any = WeakTensorKeyDictionary()
        self._varying: set[fx.Node] = set()
        for number, tensor in enumerate(inputs):
            node = self.graph.placeholder(f"input_{number}")
            self._varying.add(node)
            self._give(tensor, node)

    def node(self, tensor: Tensor) -> fx.Node:
        """Return the node that gives a tensor; what none gave is a constant from here on."""
        found: fx.Node | None = self._nodes.get(tensor)
        if found is None:
            name = f"constant_{len(list(self.constants.buffers()))}"
            self.constants.register_buffer(name, tensor)
            found = self.graph.get_attr(name)
            self._give(tensor, found)
        return found

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        given = map_aggregate((tuple(args), dict(kwargs or {})), self._named)
        sources: list[fx.Node] = []
        fx.map_arg(given, sources.append)
        varies = not self._varying.isdisjoint(sources)
        if any(tag in func.tags for tag in LOOKS):
            if varies:
                raise RuntimeError(f"{func} looks at values that depend on the inputs")
            return func(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        node = self.graph.call_function(func, *given)
        self._note(result, node, varies)
        return result

    def _named(self, argument: Any) -> Any:
        return self.node(argument) if isinstance(argument, Tensor) else argument

    def _note(self, result: Any, node: fx.Node, varies: bool) -> None:
        if varies:
            self._varying.add(node)
        if isinstance(result, Tensor):
            self._give(result, node)
        elif isinstance(result, tuple | list):
            for number, part in enumerate(result):
                if part is not None:
                    self._note(part, self.graph.call_function(operator.getitem, (node, number)), varies)

    def _give(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta["like"] = (tensor.shape, tensor.dtype, tensor.device)
        self._nodes[tensor] = node
