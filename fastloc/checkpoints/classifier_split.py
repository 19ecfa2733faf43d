"""A classifier cut at one layer: a pass that gives the layer's output, as the start of a graph, and the logits behind it.

The module is traced once (torch.fx) and run node by node, without hooks. A module that cannot be traced, because its Python branches on
values, gets a forward hook on a private copy, for the time of a call; `Split.hooked` is then True.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fastloc.errors import ModelError, unknown
from fastloc.utils.fork_safety import renewed_after_fork
from fastloc.utils.system.exhaustion import pass_on

# the depth of the modules that messages list
LISTED = 2
# float32 means of a few hundred positions, in another order
SAME = 1e-4
_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.MaxPool2d)


@dataclass(frozen=True)
class Cut:
    """One pass: the layer's output [B, K, h, w], a leaf for gradients, and the logits [B, C]."""

    features: Tensor
    outputs: Tensor


class Split:
    """A classifier and a layer of it.

    Args:
        module: any module from pixels [B, 3, H, W] to logits [B, C]. A copy is held, in eval mode (BatchNorm uses its own statistics) and
            without gradients of parameters; the module itself is neither kept nor changed.
        layer: a submodule by name ("layer4", "features.29"), whose last output is taken, or a node of the traced graph; None takes the
            output of the stage of the network's last convolution.
        example: [1, 3, H, W], run once; it must not be constant.

    Raises:
        ModelError: no such layer, one that gives no [B, K, h, w], no logits, or no layer given where none can be inferred.
    """

    def __init__(self, module: nn.Module, layer: str | None, example: Tensor) -> None:
        self.name = type(module).__name__
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.graph = _traced(self.module)
        # a hook is the module's: the pass of another thread would run into it
        self._hooking = renewed_after_fork(threading.Lock())
        self.layer = layer or ""
        self.node = self._place(layer, example)
        shape = list(self(example).outputs.shape)
        if len(shape) != 2 or shape[0] != len(example):
            raise ModelError(f"{self.name} must give logits [B, C], got {shape}")
        self.classes = shape[1]

    @property
    def hooked(self) -> bool:
        """True if the network could not be traced, so that a hook is set on the private copy during a call."""
        return self.graph is None

    def to(self, device: torch.device, dtype: torch.dtype) -> "Split":
        """This split on a device in a dtype; the private copy itself moves."""
        for part in (self.module, self.graph):
            if part is not None:
                part.to(device, dtype)
        return self

    def __call__(self, pixels: Tensor, *, grad: bool = False) -> Cut:
        """Run the classifier; with `grad` only the graph from the layer to the logits is kept.

        Raises ModelError where the layer gives no [B, K, h, w], or is not run.
        """
        found: list[Tensor] = []

        def cut(value: Any) -> Tensor:
            if not isinstance(value, Tensor) or value.ndim != 4:
                what = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ModelError(f"layer {self.layer!r} must give a spatial output [B, K, h, w], got {what}")
            found[:] = [value.detach().requires_grad_(grad)]
            # later layers get a copy, because they may change it in place
            return found[0].clone()

        with torch.inference_mode(False), torch.set_grad_enabled(grad):
            outputs = self._run(pixels.clone() if pixels.is_inference() else pixels, cut, found)
        if not found:
            raise ModelError(f"layer {self.layer!r} is not run by {self.name}")
        return Cut(found[0], outputs)

    @torch.no_grad()
    def head(self, example: Tensor) -> Tensor:
        """The weight [C, K] of the one linear layer behind global average pooling of the layer's output.

        Raises ModelError, with the reason, for a network without such a head. The check compares the results, not the code.
        """
        if self.graph is None:
            raise ModelError(self._without_head("it cannot be traced, so what its head reads is not known"))
        found = [node for node in self.graph.graph.nodes if isinstance(_called(self.graph, node), (nn.Linear, nn.Conv2d)) and node.args]
        if not found:
            raise ModelError(self._without_head("it has no linear layer"))
        linear, module = found[-1], _called(self.graph, found[-1])
        assert isinstance(module, (nn.Linear, nn.Conv2d))
        values: dict[Any, Tensor] = {}
        cut = _Values(self.graph, (linear.args[0], linear, self.node), values).run(example)
        read, given, features = (values[node].squeeze() for node in (linear.args[0], linear, self.node))
        if given.shape != cut.squeeze().shape or not torch.equal(given, cut.squeeze()):
            raise ModelError(self._without_head("its logits are not what its last linear layer gives"))
        pooled = features.mean((-2, -1))
        if read.shape != pooled.shape or not torch.allclose(read, pooled, SAME, SAME * float(pooled.abs().max())):
            raise ModelError(self._without_head(f"its last linear layer does not read the mean of {self.layer!r}"))
        return module.weight.flatten(1)

    def _without_head(self, reason: str) -> str:
        return f"CAM needs global average pooling and one linear layer, and {self.name} has another head: {reason}; method 'grad_cam' can"

    def _run(self, pixels: Tensor, cut: Callable[[Any], Tensor], found: list[Tensor]) -> Tensor:
        if self.graph is not None and self.node is not None:
            walked: Tensor = _Walk(self.graph, self.node, cut, found).run(pixels)
            return walked
        with self._hooking, _hook(self.module.get_submodule(self.layer), cut):
            outputs: Tensor = self.module(pixels)
        return outputs

    def _place(self, layer: str | None, example: Tensor) -> fx.Node | None:
        known = [name for name, _ in self.module.named_modules() if name]
        nodes = {} if self.graph is None else {node.name: node for node in self.graph.graph.nodes}
        if layer is not None and layer not in known and layer not in nodes:
            raise ModelError(unknown("layer", layer, [name for name in known if name.count(".") < LISTED]))
        if self.graph is not None:
            node = nodes[layer] if layer in nodes and layer not in known else self._node(self.graph, layer, example)
            self.layer = layer or _label(node, self.graph)
            return node
        if layer is None:
            last = [name for name, each in self.module.named_modules() if isinstance(each, nn.Conv2d)][-1:]
            raise ModelError(f"{self.name} cannot be traced, so its last stage is not known: give layer, such as {(*last, 'conv')[0]!r}")
        return None

    def _node(self, graph: fx.GraphModule, layer: str | None, example: Tensor) -> fx.Node:
        if layer is None:
            return _last_stage(graph, example, self.name)
        found: list[fx.Node] = [node for node in graph.graph.nodes if layer in _modules(node)]
        if not found:
            raise ModelError(f"layer {layer!r} is not run by {self.name}")
        return found[-1]


class _Walk(fx.Interpreter):
    """Runs a traced network and detaches one node's value; the graph before it is never made."""

    def __init__(self, graph: fx.GraphModule, place: fx.Node, cut: Callable[[Any], Tensor], found: list[Tensor]) -> None:
        super().__init__(graph)
        self.place, self.cut, self.found = place, cut, found
        # an error of fastloc stays one line
        self.extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.found)):
            value = super().run_node(n)
        return self.cut(value) if n is self.place else value


class _Values(fx.Interpreter):
    """Runs a traced network and keeps the outputs of some of its nodes."""

    def __init__(self, graph: fx.GraphModule, kept: tuple[Any, ...], values: dict[Any, Tensor]) -> None:
        super().__init__(graph)
        self.kept, self.values = kept, values

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n in self.kept:
            # later nodes may change it in place
            self.values[n] = value.clone()
        return value


class _Shapes(fx.Interpreter):
    """Runs a traced network and keeps the shape of every tensor by node."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[Any, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = tuple(value.shape)
        return value


def _traced(module: nn.Module) -> fx.GraphModule | None:
    try:
        return fx.GraphModule(module, fx.Tracer().trace(module))
    except Exception as error:
        pass_on(error)
        # untraceable code can raise any exception
        return None


@torch.no_grad()
def _last_stage(graph: fx.GraphModule, example: Tensor, name: str) -> fx.Node:
    """The last node of the size of the last convolution with a spatial output."""
    walk = _Shapes(graph)
    walk.run(example)
    spatial = {node: shape[2:] for node, shape in walk.shapes.items() if len(shape) == 4 and shape[2] * shape[3] > 1}
    order = list(walk.shapes)
    last = next((node for node in reversed(order) if node in spatial and _convolves(graph, node)), None)
    if last is None:
        raise ModelError(f"layer must be given for {name}, which has no convolution with a spatial output")
    # a pool that happens to keep the size belongs to the head
    later = order[order.index(last) :]
    end: list[fx.Node] = [node for node in later if spatial.get(node) == spatial[last] and not isinstance(_called(graph, node), _POOLS)]
    behind = (node.args[0] for node in later[later.index(end[-1]) :] if _is_linear(graph, node))
    if any(len(walk.shapes.get(read, ())) > 2 for read in behind):
        raise ModelError(f"the last convolution of {name} is not its last stage, as in a transformer: give layer, or use a method for ViTs")
    return end[-1]


def _convolves(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.target in (F.conv2d, torch.conv2d) or isinstance(_called(graph, node), nn.Conv2d)


def _is_linear(graph: fx.GraphModule, node: fx.Node) -> bool:
    return node.target is F.linear or isinstance(_called(graph, node), nn.Linear)


def _modules(node: fx.Node) -> set[str]:
    """The names of the modules that a node is part of."""
    own = {str(node.target)} if node.op == "call_module" else set()
    return own | {str(name) for name, _ in node.meta.get("nn_module_stack", {}).values()}


def _called(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _label(node: fx.Node, graph: fx.GraphModule) -> str:
    """The outermost module that ends in this node; else the node's own name."""
    later = {name for each in list(graph.graph.nodes)[list(graph.graph.nodes).index(node) + 1 :] for name in _modules(each)}
    ends = [name for name in _modules(node) - later if name]
    return min(ends, key=lambda name: name.count("."), default=node.name)


@contextmanager
def _hook(module: nn.Module, cut: Callable[[Any], Tensor]) -> Iterator[None]:
    """Replace the module's output by the result of `cut`, for the time of this context."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: cut(output))
    try:
        yield
    finally:
        handle.remove()
