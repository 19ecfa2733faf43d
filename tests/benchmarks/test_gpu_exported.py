"""The GPU script's part for exported files: providers, errors and what is missing, on the CPU and with stand-ins."""

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_onnxruntime import CPU as ORT_CPU
from fake_onnxruntime import CUDA, FakeOnnxruntime
from fastloc.errors import FastlocError, ModelError
from gpu_jobs import CPU, a_job, done
from gpu_parts import exported, exported_files, measured
from onnx_files import change

FILE = exported_files.File("tiny", "maskclip", "ort", "float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `FILE`; tracing takes seconds."""
    folder = tmp_path_factory.mktemp("files")
    row = exported_files.written(FILE, folder)
    assert row["problems"] == [] and row["mb"] == FILE.path(folder).stat().st_size / 1e6 > 0.1
    return folder


@pytest.fixture
def quick(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(file: exported_files.File, folder: Path) -> dict[str, Any]:
        shutil.copy(file.path(files), file.path(folder))
        return {"mb": 1.0, "seconds": 1.0, "problems": []}

    monkeypatch.setattr(exported, "QUICK", (FILE,))
    monkeypatch.setattr(exported, "written", written)


@pytest.mark.usefixtures("quick")
def test_exported(tmp_path: Path) -> None:
    record = done(exported, a_job("exported", tmp_path))
    there = [name for name in exported.TAKES if name not in [row.get("missing") for row in record["rows"]]]
    steps = {row["step"]: row for row in record["rows"] if "step" in row}
    assert record["good"] and record["finished"] and list(steps) == ["export", *there] and "cpu" in there
    cpu = steps["cpu"]
    assert 0 < cpu["similarity"] < 1e-5 and cpu["heatmap"] < 1e-4 and cpu["labels"] > 0.99 and 0 < cpu["golden"]["similarity"] < 1e-5, cpu
    assert cpu["nodes"].keys() == {ORT_CPU} and {cpu[name] for name in ("model", "method", "spelling", "dtype")} == {*str(FILE).split()}
    times = {row["contender"]: row for row in record["rows"] if row.get("timed") == "tiny 32 b1 maskclip float32"}
    assert list(times) == ["torch", "cpu ort"] and all(row["ms"] > 0 for row in times.values()), times
    text = "\n".join(exported.lines(record))
    rows = measured.measurements(record)
    assert [(row["contender"], row.get("provider")) for row in rows] == [("torch", None), ("cpu ort", "cpu")]
    assert all(row["method"] == "maskclip" and row["tokens"] == 17 and "onnxruntime" in row["versions"] for row in rows)
    assert "cpu float32" in text and "tiny 32 b1 maskclip float32: torch " in text
    # a provider that is not there is a row, and a line
    assert all(f"not there: {name}: provider '{name}' is not in onnxruntime" in text for name in exported.TAKES if name not in there), text


def test_exported_in_a_provider_for_gpus(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOnnxruntime(there=(CUDA, ORT_CPU))
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    row = exported_files.ran(FILE, "cuda", files, CPU, {}, None)
    assert row["problems"] == [] and row["nodes"] == {CUDA: 2, ORT_CPU: 1} and row["similarity"] < 1e-5
    fake.runs.clear()
    copies = len(fake.copies)
    rows = {row["contender"]: row for row in exported.timed(a_job("exported", tmp_path), [(FILE, "cuda")], files, {})}
    assert list(rows) == ["torch", "cuda ort", "cuda ort graph"] and all(row["ms"] > 0 for row in rows.values())
    # the graph's first run captures nothing, and what is timed copies nothing: three calls of two inputs for each session
    assert "-1" in fake.runs and len(fake.copies) == copies + 2 * 3 * 2


@pytest.mark.usefixtures("quick")
def test_exported_and_what_it_calls_wrong(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOnnxruntime(elsewhere=(("MatMul", "large"),))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", fake)
        patch.setattr(exported, "_problem", lambda name: "it does not load" if name == "tensorrt" else "")
        record = done(exported, a_job("exported", tmp_path))
    (problem,) = next(row for row in record["rows"] if row.get("step") == "cuda")["problems"]
    assert "1 of 4 nodes do not run on cuda: MatMul 'large' on CPU" in problem and record["good"] is False
    # said once, and not of every file
    assert [row["reason"] for row in record["rows"] if row.get("missing") == "tensorrt"] == ["it does not load"]
    assert {row["step"] for row in record["rows"] if "step" in row} == {"export", "cuda", "cpu"}

    def louder(model: Any) -> None:
        largest = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        largest.raw_data = (np.frombuffer(largest.raw_data, np.float32) * 1.5).tobytes()

    shutil.copy(FILE.path(files), FILE.path(tmp_path))
    change(FILE.path(tmp_path), louder)
    found = exported_files.ran(FILE, "cpu", tmp_path, CPU, {}, None)
    wrong = ["similarity is off", "scores is off", "background is off", "similarity is off"]
    assert [problem.split(" by ")[0] for problem in found["problems"]] == wrong, found

    def refuses(file: exported_files.File, folder: Path) -> None:
        raise ModelError("it does not compute what the model does")

    monkeypatch.setattr(exported, "written", refuses)
    record = done(exported, a_job("exported", tmp_path / "refused"))
    text = "\n".join(exported.lines(record))
    assert record["good"] is False and f"BAD {FILE} export: ModelError: it does not compute what the model does" in text
    assert [row["step"] for row in record["rows"] if "step" in row] == ["export"]


def test_exported_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def runtime() -> None:
        raise FastlocError("onnxruntime is not installed: pip install it")

    monkeypatch.setattr(exported, "runtime", runtime)
    record = done(exported, a_job("exported", tmp_path))
    assert record["good"] is None and record["finished"] and [row["missing"] for row in record["rows"]] == ["all"]
    assert exported.lines(record) == ["not there: all: FastlocError: onnxruntime is not installed: pip install it"]


def test_a_provider_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exported._problem("cpu") == ""

    def session(model: bytes, options: object, **more: Any) -> Any:
        assert more["providers"] == [CUDA]
        return types.SimpleNamespace(get_providers=lambda: [ORT_CPU])

    ort = types.SimpleNamespace(get_available_providers=lambda: [CUDA], SessionOptions=object, InferenceSession=session, __version__="1.2")
    monkeypatch.setattr(exported, "runtime", lambda: ort)
    assert exported._problem("cuda") == "provider 'cuda' is in onnxruntime 1.2 and does not load: a library that it needs is not there"


def test_every_file_has_a_name_and_a_provider() -> None:
    assert len({file.path(Path()) for file in exported.EVERY}) == len(exported.EVERY) == 2 * 3 * 3 * 2
    assert set(exported.TAKES) <= set(exported.PROVIDERS) and all(exported.TAKES["cpu"](file) for file in exported.EVERY)
    assert not any(exported.TAKES["tensorrt"](file) for file in exported.EVERY if file.spelling == "ort")
