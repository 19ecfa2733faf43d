"""The pages' words on GPUs come from records: none, and nothing ran; some, and the words and tables are theirs."""

from pathlib import Path

import pytest

import gpu_records as made
from doc_tables import gpu_state, tables

BLOCKS = ("gpu-limits", "gpu-plan", "gpu-measured", "tested")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu_state, "RESULTS", tmp_path)
    return tmp_path


def test_without_records_nothing_ran(results: Path) -> None:
    assert tables.table("gpu-limits") == "No GPU has run the kernels or the exported files yet.\n"
    assert tables.table("gpu-measured") == "No GPU has been measured yet.\n"
    assert tables.table("gpu-plan").startswith("**No GPU has run these kernels yet.**")
    assert "| ahead" not in tables.table("tested") and tables.table("tested").count("| a GPU") == 2
    # neither a look at tiny shapes, nor a run in the interpreter is one of a GPU
    made.write(results / "quick", "gate", made.GATE, quick=True)
    made.write(results / "cpu", "gate", made.GATE, capability=None)
    assert tables.table("gpu-limits").startswith("No GPU")


def test_the_first_records_change_every_page(results: Path) -> None:
    folder = results / "made-up-gpu"
    made.write(folder, "gate", made.GATE, good=False)
    methods = [made.timed("default", 1.5, method="gem", problems=[]), made.timed("default", 9.0, method="sclip", problems=["it is wrong"])]
    made.write(folder, "methods", methods)
    made.write(folder, "speed", [made.timed("official float32", 8.0), made.timed("default", 1.25), made.timed("encoder", 1.0)])
    made.write(folder, "compiled", [made.timed("compiled max-autotune bfloat16", 3.5), made.timed("default", 1.375)])
    made.write(folder, "variants", [made.timed("default", 1.25), made.timed("norm=torch", 1.0), made.timed("launch=eager", 2.0)])
    made.write(folder, "exported", [{"step": "cuda", "problems": []}, {"missing": "tensorrt"}])
    page = "".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in BLOCKS)
    text, _ = tables.filled(page)
    assert tables.filled(text) == (text, {}) and "No GPU" not in text and "prediction" not in text
    device = "made-up GPU (compute capability 9.0, driver 1.2), torch t, triton tt, 2030-01-02, commit abc"
    assert f"GPUs: {device}.\n" in text and f"{device}: checks of kernels: 1 of 2 right; methods: 1 of 2 right.\n" in text
    # a wrong method has no number; a contender of two parts has that of `speed`
    assert "| `gem` | 1.500 | 1.490–1.510 | 1e-03 |" in text and "`sclip`" not in text
    assert "| B/16 448 b1 | 8.000 | – | 3.500 | – | – | 1.250 | 1.000 |" in text
    assert "quicker than the GPU column: `norm=torch` at B/16 448 b1 (1.000 of 1.250 ms)." in text and "launch=eager" not in text
    assert "compiled ahead of time for sm_80, sm_89 and sm_90; made-up GPU (1 of 2 right) |  |" in text
    assert "CUDA providers on made-up GPU (1 of 1 right) | TensorRT providers; phones |" in text
    # no check of the engine ran
    assert "PyTorch 2.11 to 2.15 | a GPU; macOS" in text
