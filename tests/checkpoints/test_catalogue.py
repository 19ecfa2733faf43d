"""The list of models: families in order, sizes that are the towers' own, licences of known series, and nothing heavy imported."""

import subprocess
import sys

import pytest
import torch

import families
from fastloc.checkpoints.families import timm_towers
from fastloc.checkpoints.families.catalogue import FAMILIES, family, image_parameters
from fastloc.checkpoints.families.licences import LICENCES, licence
from fastloc.checkpoints.sources import listing
from fastloc.checkpoints.vit_weights import Weights
from fastloc.embedded import FOLDERS

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, object]]:
    return {str(row["name"]): row for row in listing.models()}


@pytest.mark.parametrize("refusing", [False, True])
def test_families_stand_together_and_refused_models_last(
    rows: dict[str, dict[str, object]], refusing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusing:
        # as if no tower of timm's were known
        monkeypatch.setattr(timm_towers, "_ROWS", ())
        rows = {str(row["name"]): row for row in listing.models()}
    run = [str(row["family"]) for row in rows.values() if row["refused"] is None]
    assert list(dict.fromkeys(run)) == [each for each in FAMILIES if each in run]
    assert run == sorted(run, key=FAMILIES.index)
    refused = [row["refused"] is not None for row in rows.values()]
    assert refused == sorted(refused) and any(refused) == refusing


def test_the_files_list_what_the_package_lists(rows: dict[str, dict[str, object]]) -> None:
    assert set(rows) == {*FOLDERS, *open_clip.list_models()}
    for name, row in rows.items():
        assert name in FOLDERS or row["pretrained"] == open_clip.list_pretrained_tags_by_model(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ViT-B-16", "CLIP"), ("ViT-B-16-SigLIP2-256", "SigLIP 2"), ("ViT-SO400M-14-SigLIP", "SigLIP"), ("nllb-clip-base-siglip", "NLLB"),
     ("PE-Core-B-16", "PE-Core"), ("EVA01-g-14", "EVA"), ("MobileCLIP2-B", "MobileCLIP"), ("coca_ViT-B-32", "CoCa"),
     ("coca_roberta-ViT-B-32", "CoCa"), ("ViT-H-14-CLIPA", "CLIPA"), ("ViT-H-14-worldwide", "MetaCLIP 2"), ("RN50", "CLIP ResNet"),
     ("xlm-roberta-base-ViT-B-32", "CLIP with other text towers"), ("vit_medium_patch16_gap_256", "CLIP"),
     ("vit_relpos_medium_patch16_cls_224", "CLIP"),
     ("ViTamin-L2-336", "ViTamin")],
)  # fmt: skip
def test_family_of_a_name(name: str, expected: str) -> None:
    assert family(name) == expected


@pytest.mark.parametrize(
    "name",
    ["ViT-B-16", "ViT-B-16-SigLIP", "PE-Core-B-16", "EVA02-B-16", "MobileCLIP2-B", "coca_ViT-B-32", "ViTamin-S", "ViTamin-XL-384"],
)
def test_sizes_of_image_towers(rows: dict[str, dict[str, object]], name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        theirs = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])
    # CoCa's pool has 255 more queries, for captions, which nothing here reads
    own = sum(each.numel() for each in theirs.parameters())
    assert rows[name]["parameters"] == pytest.approx(own, rel=0.01)


def _numbers(weights: Weights) -> int:
    """Without what is a product of others."""
    own = [each for name, each in vars(weights).items() if name not in ("blocks", "pool", "stem")]
    parts = [*weights.blocks, *weights.stem, *([weights.pool] if weights.pool else [])]
    tensors = [*own, *(each for part in parts for name, each in vars(part).items() if not name.startswith("value_"))]
    return sum(each.numel() for each in tensors if isinstance(each, torch.Tensor))


@pytest.mark.parametrize("name", ["clip", "clipa", "eva02", "eva02-e", "gap", "tips-g", "registers", "pe", "relpos"])
def test_sizes_are_the_tensors(name: str) -> None:
    weights = families.tower(name)
    assert image_parameters(weights.spec) == pytest.approx(_numbers(weights), rel=0.05)


def test_licences() -> None:
    assert licence("timm/ViT-B-16-SigLIP2/") == "Apache-2.0" and licence("timm/vit_huge_patch14_clip_224.metaclip_2pt5b") == "CC-BY-NC-4.0"
    assert licence("apple/DFN5B-CLIP-ViT-H-14") == "apple-amlr, research only"
    assert licence("jienengchen/ViTamin-L-224px/") == licence("laion/CLIP-convnext_large_d.laion2B-s26B-b102K-augreg/") == "MIT"
    # what has not been read is not guessed
    for unknown in ("", "someone/a-model", "timm/vit_huge_patch14_clip_224.metaclip2_worldwide", "visheratin/nllb-siglip-mrl-base"):
        assert licence(unknown) is None
    assert all(row.source for row in LICENCES)


def test_the_list_is_read_without_open_clip_or_timm() -> None:
    code = "import sys; from fastloc.checkpoints.sources.listing import models; models(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"open_clip", "timm", "transformers"} & set(done.stdout.split())
