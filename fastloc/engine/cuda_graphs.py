"""CUDA graphs of a function, one for each shape it is called with, a bounded number of them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Outputs = tuple[Tensor | None, ...]
Function = Callable[..., Outputs]
# runs before the capture: kernels are compiled and libraries set up, which a capture does not allow
WARM_UP = 3


class Captured:
    """One captured call: inputs are copied into the tensors it was captured with, results are copied out."""

    def __init__(self, function: Function, inputs: tuple[Tensor, ...], pool: Any) -> None:
        # a graph knows addresses only: what the function closes over has to stay where it is
        self.function = function
        self.inputs = tuple(each.clone() for each in inputs)
        stream: Any = torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(inputs[0].device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream(inputs[0].device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.outputs = function(*self.inputs)

    def __call__(self, *inputs: Tensor) -> Outputs:
        for static, given in zip(self.inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        self.graph.replay()
        # the next replay writes over the graph's own outputs
        return tuple(None if each is None else each.clone() for each in self.outputs)


class Graphs:
    """Calls functions through graphs, least recently used ones forgotten.

    A key's first call runs the function as it is: a shape that comes once is not worth a capture.

    Args:
        most: graphs kept at once. They share one memory pool, so that no two may run at the same time: all calls on one stream.
        capture: makes a graph of (function, inputs).
    """

    def __init__(self, most: int = 8, capture: Callable[[Function, tuple[Tensor, ...]], Function] | None = None) -> None:
        self.most, self.capture = most, capture or self._capture
        self.graphs: OrderedDict[Hashable, Function | None] = OrderedDict()
        self.pool: Any = None

    def __call__(self, key: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> Outputs:
        known = key in self.graphs
        graph = self.graphs.pop(key, None)
        if known and graph is None:
            graph = self.capture(function, inputs)
        # last used, last forgotten
        self.graphs[key] = graph
        while len(self.graphs) > self.most:
            self.graphs.popitem(last=False)
        return function(*inputs) if graph is None else graph(*inputs)

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        return Captured(function, inputs, self.pool)
