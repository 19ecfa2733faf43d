"""CUDA graphs of a function, one for each shape of its inputs, at most a fixed number of them."""

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
        # a graph holds addresses only, so tensors that the function closes over must stay where they are
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
        # the next replay overwrites the graph's own outputs
        return tuple(None if each is None else each.clone() for each in self.outputs)


class Graphs:
    """Calls functions through graphs and drops the least recently used graphs.

    A key's first call runs the function without a graph: a shape that occurs once is not worth a capture.

    Args:
        most: the number of graphs kept. They share one memory pool, so no two may run at the same time: all calls use one stream.
        capture: makes a graph of (function, inputs).
    """

    def __init__(self, most: int = 8, capture: Callable[[Function, tuple[Tensor, ...]], Function] | None = None) -> None:
        self.most, self.capture = most, capture
        self.graphs: OrderedDict[Hashable, Function | None] = OrderedDict()
        self.pool: Any = None

    def __call__(self, key: Hashable, function: Function, inputs: tuple[Tensor, ...]) -> Outputs:
        known = key in self.graphs
        graph = self.graphs.pop(key, None)
        if known and graph is None:
            graph = (self.capture or self._capture)(function, inputs)
        # the most recently used is dropped last
        self.graphs[key] = graph
        while len(self.graphs) > self.most:
            self.graphs.popitem(last=False)
        return function(*inputs) if graph is None else graph(*inputs)

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        return Captured(function, inputs, self.pool)
