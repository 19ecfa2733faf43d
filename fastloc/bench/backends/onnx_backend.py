"""Exported files in onnxruntime and OpenVINO as contenders; the process that is timed holds no PyTorch.

`python -P -m fastloc.bench.backends.onnx_backend BACKEND CASE FILE` exports one: a process of its own.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastloc.bench import run_facts
from fastloc.bench.backends.table import Backend, backend
from fastloc.bench.cases import Case, empty_text, read_inputs
from fastloc.bench.peers.protocol import Passes
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.utils.atomic_write import replacing_files, write_text

Array = np.ndarray[Any, Any]


def versions() -> dict[str, str]:
    """Versions of the packages that compute in this process."""
    return run_facts.versions("fastloc", "onnxruntime", "onnxruntime-gpu", "openvino", "numpy")


def build(row: Backend, case: Case, folder: Path) -> Passes:
    """The file of a case in its runtime; it is exported into `folder` if it is not there."""
    file = exported(row, case, folder)
    inputs = read_inputs(case.to_dict())
    kept = [*inputs["pixels"], *inputs["texts"]]
    run = _compiled(row, case, file) if row.runtime == "openvino" else _session(row, case, file, kept)
    texts, frames = inputs["texts"][0], inputs["frames"][0]
    spec = json.loads(_facts(file).read_text(encoding="utf-8"))
    geometry, order = fit(case.frame, case.size, tuple(spec["patch"])), case.recipe.readout

    def model(index: int) -> Any:
        return run({"pixels": inputs["pixels"][index % len(inputs["pixels"])], "text_embeddings": texts})

    def whole(index: int) -> Array:
        from PIL import Image

        from fastloc.imaging.preprocess import prepare

        pictures = [prepare(Image.fromarray(each), geometry, spec["mean"], spec["std"], spec["interpolation"]) for each in frames]
        found = _array(run({"pixels": np.stack(pictures), "text_embeddings": texts}))
        return np.stack([heatmaps.heatmaps(each, geometry, order.order, order.scale, order.reverse) for each in found])

    columns: dict[str, Any] = {"provider": row.providers.get(case.device.partition(":")[0], row.runtime)}
    if row.runtime == "onnxruntime":
        columns["spinning"] = False
    return Passes(model, lambda: _array(model(0)), whole, case.device.partition(":")[0], events=False, columns=columns)


def exported(row: Backend, case: Case, folder: Path) -> Path:
    """The file of a case, written by a process of its own so that this one never holds PyTorch. Kept for as long as the folder is."""
    facts = [row.spelling, _stored(row, case), case.config, case.weights, case.method, case.changes, case.size, case.batch, case.texts]
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    file = folder / f"{name}.onnx"
    if not file.exists():
        command = [sys.executable, "-P", "-m", "fastloc.bench.backends.onnx_backend", row.name, json.dumps(case.to_dict()), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise RuntimeError(f"it could not be exported: {said[-1] if said else f'exit code {done.returncode}'}")
    return file


def export(row: Backend, case: Case, file: Path) -> None:
    """Write the graph of a case: everything in it is fixed, as in a file that is made for one device."""
    from fastloc.bench.models import weights_of
    from fastloc.export.graph import Parts
    from fastloc.export.graph_kinds import graph_kind
    from fastloc.export.int8 import quantized
    from fastloc.export.options import Options
    from fastloc.export.to_onnx import save, trace
    from fastloc.functional.readout import needs_cls

    stored = _stored(row, case)
    method = case.recipe
    # what is timed is what the engine's pass computes
    outputs = ("similarity", "scores") if needs_cls(method.readout, case.texts) else ("similarity",)
    options = Options(spelling=row.spelling, dtype=stored, size=case.size, batch=case.batch, count=case.texts, outputs=outputs)
    weights = weights_of(case.config, case.preprocess, case.weights)
    spec = weights.spec
    options.check(spec, method)
    empty = None
    if method.reads_empty(case.texts):
        import torch

        empty = torch.from_numpy(empty_text(read_inputs(case.to_dict())["texts"][0]))
    made = trace(Parts(weights, method, options, None, None, empty))
    if stored.startswith("int8"):
        inputs = read_inputs(case.to_dict())
        feeds = [{"pixels": each, "text_embeddings": inputs["texts"][0]} for each in inputs["pixels"]]
        part = graph_kind(weights).eight_bits(spec)
        made = quantized(made, stored, feeds if stored == "int8-static" else [], part, row.spelling)
    # the process that runs the file reads these there: the specs of some towers import PyTorch
    facts = {"patch": spec.patch, "mean": spec.mean, "std": spec.std, "interpolation": spec.interpolation}
    write_text(_facts(file), json.dumps(facts))
    with replacing_files(file) as folder:
        save(made, folder / file.name)


def _facts(file: Path) -> Path:
    """The file of the facts of a tower that its pictures are prepared with."""
    return file.with_suffix(".json")


def _stored(row: Backend, case: Case) -> str:
    """The dtype of the file: OpenVINO computes in bfloat16 of float32."""
    return {"bfloat16": "float32"}.get(row.stored, row.stored) or case.dtype


def _compiled(row: Backend, case: Case, file: Path) -> Any:
    """The file as a function of its inputs by name, in OpenVINO."""
    import openvino

    from fastloc.runtime.openvino_session import DEVICE, EXACT, PRECISION

    options = {**EXACT, "INFERENCE_NUM_THREADS": case.threads, **({PRECISION: "bf16"} if row.stored == "bfloat16" else {})}
    request = openvino.Core().compile_model(str(file), DEVICE, options).create_infer_request()

    def run(fed: dict[str, Array]) -> Array:
        request.infer(fed, share_inputs=True)
        return np.array(request.get_tensor("similarity").data)

    return run


def _session(row: Backend, case: Case, file: Path, kept: list[Array]) -> Any:
    """The file as a function of its inputs by name. On a GPU the inputs in `kept` and all outputs stay there."""
    import onnxruntime as ort

    from fastloc.runtime.providers import PROVIDERS, SHARED

    kind = case.device.partition(":")[0]
    name = PROVIDERS[row.providers[kind]].ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = case.threads
    options.log_severity_level = 3
    for entry in SHARED.items():
        options.add_session_config_entry(*entry)
    if kind == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    session = ort.InferenceSession(str(file), options, providers=[name], enable_fallback=0)
    if name not in session.get_providers():
        raise RuntimeError(f"onnxruntime did not load {name}")
    if kind == "cpu":
        return lambda fed: session.run(["similarity"], fed)[0]
    there = {id(each): ort.OrtValue.ortvalue_from_numpy(each, "cuda", 0) for each in kept}

    def bound(fed: dict[str, Array]) -> Any:
        binding = session.io_binding()
        for given, array in fed.items():
            if id(array) in there:
                binding.bind_ortvalue_input(given, there[id(array)])
            else:
                binding.bind_cpu_input(given, array)
        binding.bind_output("similarity", "cuda")
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding.get_outputs()[0]

    return bound


def _array(value: Any) -> Array:
    """An output in host memory."""
    found: Array = value if isinstance(value, np.ndarray) else value.numpy()
    return found


if __name__ == "__main__":
    export(backend(sys.argv[1]), Case.from_dict(json.loads(sys.argv[2])), Path(sys.argv[3]))
