"""Towers whose grid shrinks in the benchmark: the correctness gate of their methods, backends and files, and what they do not have."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnet_towers
from fastloc.bench import cli, correctness_gate, schema, suites
from fastloc.bench.backends import onnx_backend, torch_backend
from fastloc.bench.backends.table import BACKENDS
from fastloc.bench.cases import Case, write_inputs
from fastloc.bench.models import Model
from fastloc.bench.peers.protocol import Passes
from fastloc.bench.request import Request
from fastloc.bench.run_context import Work
from fastloc.bench.towers import kinds
from fastloc.errors import ModelError
from fastloc.recipes import RECIPES

EMBED = 24
SIZE = (64, 96)
VISION: dict[str, dict[str, Any]] = {
    "FastViT": {"timm_model_name": "fastvit_mci0", "timm_pool": "avg", "timm_proj": None},
    "ConvNeXt": {"timm_model_name": "convnext_tiny", "timm_pool": "", "timm_proj": "linear"},
    "Swin": {"timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224},
}
MODELS = {
    family: Model(family, {"embed_dim": EMBED, "vision_cfg": {"timm_model_pretrained": False, "image_size": 64, **vision}})
    for family, vision in VISION.items()
}
FASTVIT = MODELS["FastViT"]
CELLS = ("itsm", "rclip", "grad_cam")


def made(one: Model, folder: Path, size: tuple[int, int] = SIZE, texts: int = 3) -> Case:
    """Two pictures of a model with seeded weights."""
    weights = one.write(folder / "tower.safetensors")
    inputs = write_inputs(folder / "inputs", 2, size, texts, one.config["embed_dim"], (40, 60))
    return Case(one.name, one.config, str(weights), "itsm", size, str(inputs), batch=2, texts=texts, frame=(40, 60))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return made(FASTVIT, tmp_path_factory.mktemp("fastvit"))


def answer(found: Passes) -> np.ndarray[Any, Any]:
    assert found.answer is not None
    return found.answer()


# the cells, their gradient, and two methods of the last stage's attention
@pytest.mark.slow("seeded weights at their full size", quick=2)
@pytest.mark.parametrize("method", ["naclip", "grad_cam", "itsm", "pearl"])
def test_the_engine_passes_the_gate_and_another_method_does_not(method: str, case: Case) -> None:
    found = answer(torch_backend.engine(BACKENDS["torch"], replace(case, method=method)))
    reference = correctness_gate.grids(replace(case, method=method))
    assert reference.shape == (2, 3, 2, 3) and not correctness_gate.judged(found, reference, "float32").refused
    other = correctness_gate.grids(replace(case, method="maskclip" if method != "maskclip" else "itsm"))
    assert correctness_gate.judged(found, other, "float32").refused


@pytest.mark.slow("seeded weights at their full size", quick=1)
@pytest.mark.parametrize("name", ["embedding", "open_clip"])
@pytest.mark.parametrize("family", ["FastViT", "ConvNeXt", "Swin"])
def test_the_embedding_alone_is_the_reference_s(family: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    # open_clip's Swin takes its trained size alone
    here = made(MODELS[family], tmp_path, (224, 224) if family == "Swin" else SIZE)
    found = answer(getattr(torch_backend, BACKENDS[name].build)(BACKENDS[name], here))
    verdict = correctness_gate.judged(found, correctness_gate.grids(here, "encoder"), "float32")
    assert found.shape == (2, 3, 1, 1) and not verdict.refused, verdict


@pytest.mark.slow("exports, in processes of their own", quick=1)
@pytest.mark.parametrize(("family", "name"), [("FastViT", "ort"), ("ConvNeXt", "int8-static"), ("Swin", "ort")])
def test_files_pass_the_gate(family: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    here, row = made(MODELS[family], tmp_path), BACKENDS[name]
    found = onnx_backend.build(row, here, tmp_path)
    assert not correctness_gate.judged(answer(found), correctness_gate.grids(here), row.stored or "float32").refused
    assert found.whole is not None and found.whole(0).shape == (2, 3, 40, 60)


@pytest.mark.slow("exports, in processes of their own")
@pytest.mark.parametrize("name", ["ort", "int8-static"])
def test_files_of_a_resnet_pass_the_gate(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    here, row = made(Model("tiny", resnet_towers.config()), tmp_path), BACKENDS[name]
    found = answer(onnx_backend.build(row, here, tmp_path))
    assert not correctness_gate.judged(found, correctness_gate.grids(here), row.stored or "float32").refused


def test_the_facts_of_a_case() -> None:
    here = Case("tiny", FASTVIT.config, "", "itsm", SIZE, "")
    assert here.patch == 32 and here.tokens == 2 * 3
    assert correctness_gate.fitting(replace(here, size=(3200, 3200))) == (3200, 3200)
    methods = FASTVIT.methods(tuple(RECIPES))
    assert {*CELLS, "naclip", "sclip", "maskclip", "gem"} <= set(methods) and not {"legrad", "eclip"} & set(methods)
    assert MODELS["ConvNeXt"].methods(tuple(RECIPES)) == MODELS["Swin"].methods(tuple(RECIPES)) == CELLS
    with pytest.raises(ModelError, match="model must be a ViT here, got Swin, a Swin; use one that runs gem"):
        _ = MODELS["Swin"].vit


def test_backends_of_every_kind() -> None:
    specs = [FASTVIT.spec, Model("tiny", resnet_towers.config()).spec]
    for name, row in BACKENDS.items():
        refused = [kinds.no_backend(spec, row) for spec in specs]
        if name in ("compile", "official"):
            assert refused[0].startswith("it runs transformers, and this tower is a FastViT;") and "a CLIP ResNet;" in refused[1]
        else:
            assert not refused[0]
            assert ("dtype must be 'int8-static' for a tower of convolutions" in refused[1]) == (name == "int8")


def test_methods_that_exist_there_beside_the_encoder() -> None:
    asked: dict[str, Any] = {
        "models": (MODELS["ConvNeXt"],), "methods": tuple(RECIPES), "backends": ("torch", "ort", "open_clip"), "peers": (), "suites": (),
        "sizes": (64,), "batches": (1,), "texts": 4, "dtype": "float32", "device": "cpu", "threads": 1, "seconds": 1.0, "out": Path(),
    }  # fmt: skip
    with Work(Request(**asked), "20260101-000000") as work:
        found = list(suites.SUITES["methods"].groups(work))
    assert [group.name for group in found] == [f"ConvNeXt 64 px, {name}" for name in CELLS]
    for group in found:
        rows = {each.label: each for each in group.contenders}
        assert list(rows) == ["encoder", "open_clip", "torch", "ort"] and not any(each.failed for each in rows.values())
        assert not {"gflop", "floor_ms"} & set(rows["torch"].row) and rows["torch"].row["tokens"] == 4


@pytest.mark.slow("a whole run, with exports")
def test_a_run_of_mobileclip_from_command_line_to_record(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    arguments = ["--models", "MobileCLIP2-S0@64", "--methods", "naclip", "--suites", "methods"]
    arguments += ["--backends", "torch,open_clip,ort,int8"]
    assert cli.main([*arguments, "--device", "cpu", "--seconds", "1", "--threads", "1", "--json", "-o", str(tmp_path)]) == 0
    rows = [row for row in schema.read(tmp_path) if row["suite"] == "methods"]
    assert not [row["failed"] for row in rows if row.get("failed")]
    assert {(row["method"], row["contender"]) for row in rows} >= {("naclip", name) for name in ("torch", "ort", "int8")}
    assert all(row["error"] < row["allowed"] for row in rows)
