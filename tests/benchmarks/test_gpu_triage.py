"""`gpu.py --triage`: every failure of the records, with its command, its reference and what is known of such failures."""

import re
from pathlib import Path

import pytest

import gpu
import gpu_records as made
from gpu_parts import triage
from repo import REPO


def triaged(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = gpu.main(["--triage", "-o", str(folder)])
    return code, capsys.readouterr().out


def test_a_kernel_s_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write(tmp_path, "gate", made.GATE, good=False)
    code, text = triaged(tmp_path, capsys)
    assert code == 1 and "made-up GPU, capability 9.0, driver 1.2, torch t, triton tt" in text and text.endswith("\n1 failures\n")
    assert "gate: self_self_step · unit N=17 d=16 · bfloat16\n  output 0: error 5.00e-01 is over 2.00e-01" in text
    assert "error 5.00e-01, allowed 2.00e-01, torch error 1.00e-01" in text and "cosine" not in text
    assert "repeat: python benchmarks/gpu.py --parts gate --only 'self_self_step · unit N=17 d=16 · bfloat16'\n" in text
    # the interpreter multiplies it wrongly
    assert "--device cpu" not in text and "bfloat16 is judged on GPUs alone" in text
    place = re.search(r"reference: kernels/self_self_step\.py:(\d+); the kernel: kernels/self_self_step\.py:(\d+)", text)
    assert place
    source = (REPO / "kernels" / "self_self_step.py").read_text(encoding="utf-8").splitlines()
    assert source[int(place[1]) - 1].startswith("def reference(") and source[int(place[2]) - 1].startswith("def self_self_step(")


@pytest.mark.parametrize(("words", "expected"), [
    ("raised OutOfResources: out of resource: shared memory, Required: 240000", "smaller BM, BN or num_stages"),
    ("raised RuntimeError: CUDA error: an illegal memory access was encountered", "compute-sanitizer"),
    ("output 0: image 1 alone does not give the same bits", "depends on the batch"),
    ("output 0: a second run does not give the same bits", "racecheck"),
    ("raised AttributeError: module 'triton.language' has no attribute 'x'", "this version of Triton or PyTorch lacks"),
])  # fmt: skip
def test_what_is_known(words: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.write(tmp_path, "gate", [{**made.GATE[0], "problems": [words]}])
    code, text = triaged(tmp_path, capsys)
    assert code == 1 and expected in text and words in text and "--device cpu   (Triton's interpreter)" in text


def test_parity_methods_and_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = {"check": "engine", "model": "B/16", "recipe": "naclip", "size": [224, 224], "batch": 3, "dtype": "float16",
             "settings": {"norm": "torch"}, "plan": made.PLAN, "error": 0.3, "allowed": 0.1,
             "problems": ["a replay differs from the eager call"]}  # fmt: skip
    made.write(tmp_path, "parity", [check])
    made.write(tmp_path, "methods", [made.timed("default", 1.0, method="grad_cam", problems=["error 1 is over 0"])])
    made.write(tmp_path, "exported", [], error="ModuleNotFoundError: No module named 'msgspec'\n  File x, line 3")
    made.write(tmp_path, "speed", [made.timed("default", 1.0)], left_out=["L/14 336 b32"])
    code, text = triaged(tmp_path, capsys)
    assert code == 1 and text.endswith("\n3 failures\n") and "speed: left out for time: L/14 336 b32" in text
    assert "--parts parity --only 'engine · B/16 · naclip · 224x224 · b3 · float16 · norm=torch'" in text
    assert re.search(r"reference: fastloc/reference/methods\.py:\d+\n", text) and "freed or replaced after the capture" in text
    assert "set attention to PyTorch's own" in text and "--parts methods --only grad_cam" in text
    assert re.search(r"reference: fastloc/reference/relevance\.py:\d+\n", text)
    assert "exported: the part itself" in text and "carry its wheel" in text and "File x, line 3" in text


def test_nothing_failed_and_no_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert triaged(tmp_path, capsys) == (2, f"no records of the GPU script below {tmp_path}\n")
    # a folder of machines, of which the newest counts
    made.write(tmp_path / "one", "gate", made.GATE[:1])
    code, text = triaged(tmp_path, capsys)
    assert code == 0 and text.endswith("\nnothing failed\n")


def test_a_repeated_check_is_found_by_its_title() -> None:
    """Triage prints the titles that `--only` looks for."""
    from gpu_parts import gate, job

    one = job.Job("gate", gate.torch.device("cuda", 0), Path(), only="self_self_step · unit N=17 d=16 · bfloat16")
    assert [gate._title(item) for group in gate._groups(one) for item in group] == [one.only]
    assert triage.commands({"part": "gate", "title": one.only, "row": made.GATE[1]})[0].endswith(f"--only '{one.only}'")
