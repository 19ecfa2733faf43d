"""Candidates for running one method of a tower on a CPU: files in several precisions, and runtimes that take them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from onnxruntime import quantization

from fastloc.checkpoints.vit_weights import Weights
from fastloc.export.graph import Parts
from fastloc.export.int8 import products_of, quantized
from fastloc.export.options import Options
from fastloc.export.to_onnx import save, trace
from fastloc.recipes import Recipe
from fastloc.runtime.openvino_session import CAPABILITIES, DEVICE, EXACT, PRECISION
from fastloc.runtime.providers import SHARED
from fastloc.utils.hardware import processors

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
Pair = tuple[int, int]
# pixels [B, 3, H, W] and unit texts [T, E] to similarity grids
Run = Callable[[Array, Array], Array]
THREADS = processors()


@dataclass(frozen=True)
class Way:
    """One way: a runtime, the file that it takes, the precision that OpenVINO computes in, and a package that it needs besides."""

    runtime: str
    file: str
    precision: str = "f32"
    package: str = ""


WAYS = {
    "onnxruntime, float32": Way("onnxruntime", "float32"),
    "onnxruntime, int8-dynamic": Way("onnxruntime", "int8-dynamic"),
    "onnxruntime, int8-static": Way("onnxruntime", "int8-static"),
    "onnxruntime, int8-static with attention": Way("onnxruntime", "attention"),
    "OpenVINO, float32": Way("openvino", "float32", package="openvino"),
    "OpenVINO, bfloat16": Way("openvino", "float32", "bf16", package="openvino"),
    "OpenVINO, int8-static": Way("openvino", "int8-static", package="openvino"),
    "OpenVINO, int8-static with attention": Way("openvino", "attention", package="openvino"),
    "OpenVINO, NNCF": Way("nncf", "float32", package="nncf"),
}


class Files:
    """The files of one method of a tower, each made when it is first asked for. `calibration`: inputs by name."""

    def __init__(self, folder: Path, tower: Weights, row: Recipe, empty: Any, calibration: Sequence[Feed]) -> None:
        self.folder, self.tower, self.row, self.empty, self.calibration = folder, tower, row, empty, list(calibration)
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, kind: str) -> Path:
        file = self.folder / f"{kind}.onnx"
        if not file.exists():
            save(self._model(kind), file)
        return file

    def fixed(self, size: Pair, texts: int) -> Path:
        """The float32 file for one picture of a size, and so many texts."""
        file = self.folder / f"{size[0]}x{size[1]}-{texts}.onnx"
        if not file.exists():
            save(self._traced(Options("ort", size=size, count=texts, outputs=("similarity",))), file)
        return file

    def _traced(self, options: Options) -> ir.Model:
        return trace(Parts(self.tower, self.row, options, None, None, self.empty))

    def _model(self, kind: str) -> ir.Model:
        # onnxruntime's fused attention takes no 8 bits
        model = self._traced(Options("decomposed" if kind == "attention" else "ort", batch=None, outputs=("similarity",)))
        if kind == "attention":
            return self._with_attention(model)
        return model if kind == "float32" else quantized(model, kind, self._feeds(kind), products_of(self.tower.spec))

    def _feeds(self, kind: str) -> list[Feed]:
        return self.calibration if kind == "int8-static" else []

    def _with_attention(self, model: ir.Model) -> ir.Model:
        """The products of attention in 8 bits too: queries with keys, and weights with values, each with a range of its own."""
        model = quantized(model, "int8-static", self.calibration, products_of(self.tower.spec), "decomposed")
        products = [node for node in model.graph if node.op_type == "MatMul"]
        names, softmax = [], {value.name for node in model.graph if node.op_type == "Softmax" for value in node.outputs}
        for i, node in enumerate(products):
            after = {user.op_type for value in node.outputs for user, _ in value.uses()}
            if softmax & {value.name for value in node.inputs if value is not None} or "Softmax" in after or self._scaled(node):
                node.name = node.name or f"attention_{i}"
                names.append(node.name)
        before, after_file = self.folder / "before.onnx", self.folder / "after.onnx"
        ir.save(model, before)
        how = {"ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": False}
        quantization.quantize_static(
            before, after_file, _Reader(self.calibration), op_types_to_quantize=["MatMul"], nodes_to_quantize=names, extra_options=how
        )
        return ir.from_proto(ir.to_proto(ir.load(after_file)))

    @staticmethod
    def _scaled(node: ir.Node) -> bool:
        """True where a softmax comes after one product with a number."""
        users = [user for value in node.outputs for user, _ in value.uses()]
        scaled = [value for user in users if user.op_type == "Mul" for value in user.outputs]
        return any(user.op_type == "Softmax" for value in scaled for user, _ in value.uses())


class _Reader:
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self.feeds, None)


def missing(way: Way) -> str:
    """The package, or the capability of the processor, that a way lacks, or "". OpenVINO computes in float32 where it lacks one."""
    if way.package and find_spec(way.package) is None:
        return f"the package {way.package}"
    wanted = CAPABILITIES.get(way.precision)
    return f"a processor with {wanted}" if wanted and wanted not in _capabilities() else ""


def _capabilities() -> list[str]:
    import openvino

    found: list[str] = openvino.Core().get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    return found


def runs(files: Files, names: Sequence[str] = tuple(WAYS)) -> dict[str, Run]:
    """The candidates that this machine has."""
    logging.getLogger().setLevel(logging.ERROR)
    made = {"onnxruntime": _onnxruntime, "openvino": OpenVino, "nncf": Nncf}
    return {name: made[WAYS[name].runtime](files, WAYS[name]) for name in names if not missing(WAYS[name])}


def _onnxruntime(files: Files, way: Way) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, THREADS
    for entry in SHARED.items():
        options.add_session_config_entry(*entry)
    session = onnxruntime.InferenceSession(str(files.path(way.file)), options, providers=["CPUExecutionProvider"])

    def run(pixels: Array, texts: Array) -> Array:
        found: Array = session.run(["similarity"], {"pixels": pixels, "text_embeddings": texts})[0]
        return found

    return run


class OpenVino:
    """A file in OpenVINO, compiled for each size of picture."""

    def __init__(self, files: Files, way: Way) -> None:
        import openvino

        self.files, self.way, self.core = files, way, openvino.Core()
        self.model = self.core.read_model(str(files.path(way.file)))
        self.requests: dict[Pair, Any] = {}

    def __call__(self, pixels: Array, texts: Array) -> Array:
        size = pixels.shape[2], pixels.shape[3]
        if size not in self.requests:
            options = {**EXACT, PRECISION: self.way.precision, "INFERENCE_NUM_THREADS": THREADS}
            self.requests[size] = self.core.compile_model(self._model(size), DEVICE, options).create_infer_request()
        request = self.requests[size]
        request.infer({"pixels": pixels, "text_embeddings": texts}, share_inputs=True)
        return np.array(request.get_tensor("similarity").data)

    def _model(self, size: Pair) -> Any:
        model = self.model.clone()
        model.reshape({"pixels": [-1, 3, *size], "text_embeddings": [-1, self.files.tower.spec.embed]})
        return model


class Nncf(OpenVino):
    """The float32 file in 8 bits by NNCF, with its settings for transformers, on the calibration pictures in each size."""

    def __call__(self, pixels: Array, texts: Array) -> Array:
        # it takes a file of one shape: of open ones it mistakes the axes
        return np.concatenate([super(Nncf, self).__call__(one[None], texts) for one in pixels])

    def _model(self, size: Pair) -> Any:
        import nncf

        nncf.set_log_level(logging.ERROR)
        feeds = [{**feed, "pixels": _resized(feed["pixels"], size)} for feed in self.files.calibration]
        model = self.core.read_model(str(self.files.fixed(size, len(feeds[0]["text_embeddings"]))))
        return nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), model_type=nncf.ModelType.TRANSFORMER)


def _resized(pixels: Array, size: Pair) -> Array:
    found = torch.nn.functional.interpolate(torch.from_numpy(pixels), size, mode="bicubic", antialias=True)
    return np.ascontiguousarray(found.numpy())
