"""Little fastloc ONNX files, written without torch and without the exporter: a patch convolution, one attention, cosines with the texts.

The golden comes from the same formula in numpy, so a right file passes and a changed one does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fastloc import __version__
from fastloc.imaging.geometry import fit
from fastloc.onnx_file.golden import Golden, Sample, unit_texts
from fastloc.onnx_file.manifest import KEY, Input, Manifest, Model, Texts
from fastloc.recipes import recipe

Array = NDArray[Any]
EMBED, PATCH = 16, 8
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
LABELS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


@dataclass(frozen=True)
class Tiny:
    """Settings of a small file. Sizes are (height, width); a frame is a whole multiple of the size. `names` bakes the texts."""

    kind: str = "pixels"
    layout: str = "NCHW"
    bgr: bool = False
    size: tuple[int, int] | None = (32, 40)
    frame: tuple[int, int] | None = None
    batch: int | None = None
    count: int | None = None
    names: tuple[str, ...] = ()
    dtype: str = "float32"
    spelling: str = "decomposed"
    outputs: tuple[str, ...] = ("similarity", "scores")
    method: str = "gem"
    seed: int = 7
    golden: bool = True
    # weights in a file of their own, <path>.data
    external: bool = False
    # picture 0 depends on the other pictures: a fault that one picture alone cannot show
    mixed: bool = False

    @property
    def usual(self) -> tuple[int, int]:
        return self.size or (32, 40)

    @property
    def shown(self) -> tuple[int, int]:
        """The size of the picture that goes in."""
        return (self.frame or self.usual) if self.kind == "frames" else self.usual

    @property
    def opset(self) -> int:
        return 23 if self.spelling == "onnx" else 18


def tiny_model(path: Path, **changes: Any) -> Manifest:
    """Write the file that `Tiny(**changes)` describes, and return its manifest."""
    kind = Tiny(**changes)
    manifest = _manifest(kind)
    if kind.golden:
        manifest = replace(manifest, golden=golden(kind))
    model = _model(kind)
    helper.set_model_props(model, {KEY: manifest.dumps()})
    if kind.external:
        # onnx appends to a file of weights that is there already
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        onnx.save_model(model, path)
    return manifest


def change(path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    """Edit the file in place."""
    model = onnx.load(path)
    edit(model)
    onnx.save_model(model, path)
    return path


def change_weight(path: Path, name: str = "kernel", by: float = 0.5) -> Path:
    """Add a number to one weight."""

    def edit(model: onnx.ModelProto) -> None:
        (tensor,) = (each for each in model.graph.initializer if each.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[0] += by
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change(path, edit)


def change_metadata(path: Path, text: str, key: str = KEY) -> Path:
    """Set one entry of the metadata."""

    def edit(model: onnx.ModelProto) -> None:
        entries = {each.key: each.value for each in model.metadata_props} | {key: text}
        helper.set_model_props(model, entries)

    return change(path, edit)


def _manifest(kind: Tiny) -> Manifest:
    model = Model("tiny", "a" * 64, "b" * 64, (PATCH, PATCH), EMBED, MEAN, STD, "bicubic", "CC0-1.0")
    shape = Input(kind.kind, kind.layout, kind.bgr, kind.size, kind.frame, "stretch", kind.batch, kind.usual)
    texts = Texts(len(kind.names) or kind.count, kind.names)
    return Manifest(__version__, model, recipe(kind.method), shape, texts, kind.outputs, kind.dtype, kind.spelling, kind.opset)


def weights(seed: int) -> tuple[Array, Array]:
    """The patch convolution [E, 3, p, p] and its bias [E], float32."""
    draw = np.random.default_rng(seed)
    kernel = draw.normal(size=(EMBED, 3, PATCH, PATCH)) / PATCH
    return kernel.astype(np.float32), draw.normal(size=EMBED).astype(np.float32)


def golden(kind: Tiny) -> Golden:
    """Inputs and right outputs, by numpy in float64."""
    count = 0 if kind.names else kind.count or 3
    made = Golden(kind.seed, kind.batch or 2, kind.shown, count, {})
    texts = unit_texts(kind.seed, len(kind.names) or count, EMBED)
    right = _answers(kind, made.pictures(), texts)
    return replace(made, outputs={name: Sample.take(right[name]) for name in kind.outputs})


def _answers(kind: Tiny, pictures: Array, texts: Array) -> dict[str, Array]:
    kernel, bias = (each.astype(np.float64) for each in weights(kind.seed))
    step = kind.shown[0] // kind.usual[0]
    small = pictures.reshape(len(pictures), kind.usual[0], step, kind.usual[1], step, 3).mean((2, 4))
    pixels = (small / 255 - MEAN) / STD
    pixels = pixels + pixels.mean(0) if kind.mixed else pixels
    h, w = kind.usual[0] // PATCH, kind.usual[1] // PATCH
    patches = pixels.reshape(-1, h, PATCH, w, PATCH, 3)
    features = np.einsum("bhywxc,ecyx->bhwe", patches, kernel).reshape(-1, h * w, EMBED) + bias
    logits = features @ features.transpose(0, 2, 1) * EMBED**-0.5
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    features = features + powers / powers.sum(-1, keepdims=True) @ features
    unit = features / np.sqrt((features**2).sum(-1, keepdims=True))
    flat = (unit @ texts.astype(np.float64).T).transpose(0, 2, 1)
    maps = _heat(kind, flat.reshape(*flat.shape[:2], h, w))
    answers = {"similarity": flat.reshape(*flat.shape[:2], h, w), "scores": flat.mean(-1), "heatmaps": maps}
    return {name: each.astype(np.float32) for name, each in answers.items()} | {"labels": maps.argmax(1).astype(np.uint8)}


def _heat(kind: Tiny, maps: Array) -> Array:
    rows, columns = _resampling(kind)
    large = rows @ maps @ columns.T
    low, high = large.min((2, 3), keepdims=True), large.max((2, 3), keepdims=True)
    scaled: Array = (large - low) / (high - low)
    return scaled


def _resampling(kind: Tiny) -> tuple[Array, Array]:
    return fit(kind.shown, kind.usual, PATCH).resampling((kind.usual[0] // PATCH, kind.usual[1] // PATCH))


class _Graph:
    """Nodes and initialisers as they come; `op` returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def op(self, kind: str, *inputs: str | Array, name: str = "", domain: str = "", **attributes: Any) -> str:
        made = name or f"{kind.lower()}_{len(self.nodes)}"
        names = [each if isinstance(each, str) else self.constant(f"{made}_{i}", each) for i, each in enumerate(inputs)]
        self.nodes.append(helper.make_node(kind, names, [made], name=made, domain=domain, **attributes))
        return made

    def constant(self, name: str, values: Array) -> str:
        self.constants[name] = values
        return name


def _model(kind: Tiny) -> onnx.ModelProto:
    g = _Graph()
    features = _attend(g, kind, _patches(g, kind))
    unit = g.op("LpNormalization", features, axis=-1, p=2)
    texts = g.constant("texts", unit_texts(kind.seed, len(kind.names), EMBED)) if kind.names else "text_embeddings"
    flat = g.op("Transpose", g.op("MatMul", unit, g.op("Transpose", texts, perm=[1, 0])), perm=[0, 2, 1])
    shape = g.op("Concat", np.array([0, 0], np.int64), g.op("Shape", "conv", start=2), axis=0)
    g.op("Reshape", flat, shape, name="similarity")
    _more_outputs(g, kind, flat)
    count = len(kind.names) or kind.count or "T"
    constants = [numpy_helper.from_array(values, name) for name, values in g.constants.items()]
    graph = helper.make_graph(g.nodes, "tiny", _inputs(kind), _outputs(kind, count), constants)
    opsets = [helper.make_opsetid("", kind.opset)] + [helper.make_opsetid("com.microsoft", 1)] * (kind.spelling == "ort")
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="fastloc tests")


def _patches(g: _Graph, kind: Tiny) -> str:
    """Patch features [B, P, E] in the tower's dtype."""
    at = "frames" if kind.kind == "frames" else "pixels"
    if kind.kind == "frames":
        at = g.op("Cast", at, to=TensorProto.FLOAT)
        at = g.op("Transpose", at, perm=[0, 3, 1, 2]) if kind.layout == "NHWC" else at
        at = g.op("Gather", at, np.array([2, 1, 0], np.int64), axis=1) if kind.bgr else at
        step = kind.shown[0] // kind.usual[0]
        at = g.op("AveragePool", at, kernel_shape=[step, step], strides=[step, step]) if step > 1 else at
    if kind.kind != "pixels":
        mean, std = (np.array(each, np.float32).reshape(1, 3, 1, 1) * 255 for each in (MEAN, STD))
        at = g.op("Div", g.op("Sub", at, mean), std)
    kernel, bias = (each.astype(kind.dtype) for each in weights(kind.seed))
    if kind.dtype != "float32":
        at = g.op("Cast", at, to=LABELS[kind.dtype])
    if kind.mixed:
        at = g.op("Add", at, g.op("ReduceMean", at, np.array([0], np.int64)))
    g.op("Conv", at, g.constant("kernel", kernel), g.constant("bias", bias), name="conv", strides=[PATCH, PATCH])
    return g.op("Transpose", g.op("Reshape", "conv", np.array([0, 0, -1], np.int64)), perm=[0, 2, 1])


def _attend(g: _Graph, kind: Tiny, x: str) -> str:
    """x plus its attention to itself, float32."""
    if kind.spelling == "ort":
        mixed = g.op("MultiHeadAttention", x, x, x, domain="com.microsoft", num_heads=1)
    elif kind.spelling == "onnx":
        mixed = g.op("Attention", x, x, x, q_num_heads=1, kv_num_heads=1)
    else:
        logits = g.op("Mul", g.op("MatMul", x, g.op("Transpose", x, perm=[0, 2, 1])), np.array(EMBED**-0.5, kind.dtype))
        mixed = g.op("MatMul", g.op("Softmax", logits, axis=-1), x)
    total = g.op("Add", x, mixed)
    return total if kind.dtype == "float32" else g.op("Cast", total, to=TensorProto.FLOAT)


def _more_outputs(g: _Graph, kind: Tiny, flat: str) -> None:
    if "scores" in kind.outputs:
        g.op("ReduceMean", flat, np.array([2], np.int64), name="scores", keepdims=0)
    if not {"heatmaps", "labels"} & set(kind.outputs):
        return
    rows, columns = (each.astype(np.float32) for each in _resampling(kind))
    large = g.op("MatMul", g.op("MatMul", rows, "similarity"), np.ascontiguousarray(columns.T))
    low, high = (g.op(each, large, np.array([2, 3], np.int64)) for each in ("ReduceMin", "ReduceMax"))
    g.op("Div", g.op("Sub", large, low), g.op("Sub", high, low), name="heatmaps")
    if "labels" in kind.outputs:
        g.op("Cast", g.op("ArgMax", "heatmaps", axis=1, keepdims=0), name="labels", to=TensorProto.UINT8)


def _inputs(kind: Tiny) -> list[onnx.ValueInfoProto]:
    batch: int | str = kind.batch or "B"
    height, width = kind.shown if kind.size else ("H", "W")
    if kind.kind == "frames":
        shape = [batch, height, width, 3] if kind.layout == "NHWC" else [batch, 3, height, width]
        made = [helper.make_tensor_value_info("frames", TensorProto.UINT8, shape)]
    else:
        made = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, height, width])]
    texts = [] if kind.names else [helper.make_tensor_value_info("text_embeddings", TensorProto.FLOAT, [kind.count or "T", EMBED])]
    return made + texts


def _outputs(kind: Tiny, count: int | str) -> list[onnx.ValueInfoProto]:
    batch: int | str = kind.batch or "B"
    grid = [kind.usual[0] // PATCH, kind.usual[1] // PATCH] if kind.size else ["h", "w"]
    shapes: dict[str, list[Any]] = {
        "similarity": [batch, count, *grid],
        "scores": [batch, count],
        "heatmaps": [batch, count, *kind.shown],
        "labels": [batch, *kind.shown],
    }
    types = {"labels": TensorProto.UINT8}
    return [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shapes[name]) for name in kind.outputs]
