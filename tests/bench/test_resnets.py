"""CLIP's ResNets in the benchmark: their cases, the correctness gate, and the backends and methods that they have."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_towers
from fastloc.bench import cli, contenders, correctness_gate, schema, suites
from fastloc.bench.backends import torch_backend
from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.cases import Case, write_inputs
from fastloc.bench.models import Model, model
from fastloc.bench.request import Request
from fastloc.bench.run_context import Work
from fastloc.bench.towers import kinds
from fastloc.errors import ModelError
from fastloc.functional.resnet import FORMS
from fastloc.recipes import RECIPES

TINY = Model("tiny", resnet_towers.config())
METHODS = tuple(name for name in RECIPES if name in FORMS)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Two pictures whose grid is not the trained one."""
    folder = tmp_path_factory.mktemp("resnets")
    weights = TINY.write(folder / "tiny.safetensors")
    inputs = write_inputs(folder / "inputs", 2, (64, 96), 3, resnet_towers.EMBED, (40, 60))
    return Case("tiny", TINY.config, str(weights), "itsm", (64, 96), str(inputs), batch=2, texts=3, frame=(40, 60))


def groups(suite: str, **changed: Any) -> list[Any]:
    usual: dict[str, Any] = {
        "models": (TINY,), "methods": tuple(RECIPES), "backends": ("torch",), "peers": (), "suites": (), "sizes": (64,), "batches": (1,),
        "texts": 4, "dtype": "float32", "device": "cpu", "threads": 1, "seconds": 1.0, "out": Path(),
    }  # fmt: skip
    with Work(Request(**(usual | changed)), "20260101-000000") as work:
        return list(suites.SUITES[suite].groups(work))


@pytest.mark.parametrize("method", METHODS)
def test_the_engine_passes_the_gate_and_another_method_does_not(method: str, case: Case) -> None:
    found = torch_backend.engine(BACKENDS["torch"], replace(case, method=method))
    answer, reference = found.answer, correctness_gate.grids(replace(case, method=method))
    assert answer is not None and reference.shape == (2, 3, 2, 3)
    assert not correctness_gate.judged(answer(), reference, "float32").refused
    other = correctness_gate.grids(replace(case, method="maskclip" if method != "maskclip" else "itsm"))
    assert correctness_gate.judged(answer(), other, "float32").refused


def test_one_text_of_feature_surgery_is_read_against_the_empty_one(case: Case, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs", 1, (64, 64), 1, resnet_towers.EMBED, (40, 60))
    one = replace(case, method="clip_surgery", size=(64, 64), inputs=str(inputs), batch=1, texts=1)
    answer = torch_backend.engine(BACKENDS["torch"], one).answer
    assert answer is not None and not correctness_gate.judged(answer(), correctness_gate.grids(one), "float32").refused


@pytest.mark.parametrize("size", [(64, 96), (64, 64)])
@pytest.mark.parametrize("name", ["embedding", "open_clip"])
def test_the_embedding_alone_is_the_reference_s(name: str, size: tuple[int, int], case: Case, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    inputs = write_inputs(tmp_path / "inputs", 2, size, 3, resnet_towers.EMBED, (40, 60))
    here = replace(case, size=size, inputs=str(inputs))
    answer = getattr(torch_backend, BACKENDS[name].build)(BACKENDS[name], here).answer
    assert correctness_gate.judged(answer(), correctness_gate.grids(here, "encoder"), "float32").error < 1e-5


def test_a_whole_call_goes_from_frames_to_heatmaps(case: Case) -> None:
    found = torch_backend.engine(BACKENDS["torch"], case)
    assert found.whole is not None
    heat = found.whole(0)
    assert heat.shape[:2] == (2, 3) and np.isfinite(heat).all() and np.ptp(heat) > 0


def test_seeded_weights_are_open_clips_tensors_with_a_variance_above_0(case: Case) -> None:
    weights = torch_backend._weights(case)
    assert weights.spec == resnet_towers.tower().spec == TINY.spec
    assert weights.stem[0].norm is not None and float(weights.stem[0].norm.variance.min()) >= 0.5


def test_the_facts_of_a_case(case: Case) -> None:
    assert case.patch == 32 and case.tokens == 1 + 2 * 3
    assert correctness_gate.fitting(replace(case, size=(3200, 3200))) == (3200, 3200)
    assert TINY.methods(tuple(RECIPES)) == METHODS and TINY.methods(("gem",)) == ()
    with pytest.raises(ModelError, match="model must be a ViT here, got tiny, a CLIP ResNet; use one that runs gem"):
        _ = TINY.vit


def test_methods_that_exist_there_beside_the_encoder_without_a_limit() -> None:
    found = groups("methods", backends=("torch", "ort", "embedding"))
    assert [group.name for group in found] == [f"tiny 64 px, {name}" for name in METHODS]
    for group in found:
        rows = {each.label: each for each in group.contenders}
        assert list(rows) == ["encoder", "embedding", "torch", "ort"]
        assert not any(each.failed for each in rows.values())
        # the counts are those of transformers
        assert not {"gflop", "floor_ms"} & set(rows["torch"].row) and rows["torch"].row["tokens"] == 5


@pytest.mark.parametrize("suite", sorted(set(suites.SUITES) - {"methods"}))
def test_suites_of_gem_pass_it_over(suite: str) -> None:
    assert groups(suite) == []
    beside = groups(suite, models=(model("embedded"), TINY), sizes=(96,), texts=1) if suite == "waterfall" else []
    assert all("embedded" in group.name for group in beside) and (beside or suite != "waterfall")


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_backends_say_whether_they_run_it(name: str) -> None:
    runs = name not in ("compile", "official", "int8")
    assert (kinds.no_backend(TINY.spec, BACKENDS[name]) == "") == runs
    assert kinds.no_backend(model("ViT-B-16").spec, BACKENDS[name]) == ""
    assert contenders.beyond_official(TINY.spec)


@pytest.mark.slow("a run from command line to records")
def test_a_run_of_rn50_from_command_line_to_record(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    arguments = ["--models", "RN50@64", "--methods", "itsm,grad_cam", "--suites", "methods,cold", "--backends", "torch,open_clip"]
    assert cli.main([*arguments, "--device", "cpu", "--seconds", "1", "--threads", "1", "--json", "-o", str(tmp_path)]) == 0
    rows = [row for row in schema.read(tmp_path) if row["suite"] != "ceilings"]
    assert not [row["failed"] for row in rows if row.get("failed")]
    measured = {(row["suite"], row["method"], row["contender"]) for row in rows}
    assert {("methods", name, "torch") for name in ("itsm", "grad_cam")} | {("methods", "encoder", "open_clip")} <= measured
    assert any(row["suite"] == "cold" for row in rows)
    assert all(row["error"] < row["allowed"] for row in rows if row["suite"] == "methods")
