"""The pixels of a named architecture whose weights have no tag, random ones or those of a file: those of open_clip's registry."""

from pathlib import Path

import open_clip
import pytest

from fastloc.checkpoints.sources.description import RANDOM, describe, refusal, spec_of
from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD

HALF, RAW, OPENAI = ((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3), (OPENAI_MEAN, OPENAI_STD)


@pytest.mark.parametrize(
    ("name", "pixels", "interpolation"),
    [
        ("MobileCLIP-S1", RAW, "bilinear"), ("MobileCLIP-S2", RAW, "bilinear"), ("MobileCLIP2-S0", RAW, "bilinear"),
        ("MobileCLIP2-S3", OPENAI, "bilinear"), ("MobileCLIP-B", RAW, "bilinear"), ("ViT-B-16-SigLIP", HALF, "bicubic"),
        ("convnext_base_w", OPENAI, "bicubic"), ("RN50", OPENAI, "bicubic"), ("ViT-B-32", OPENAI, "bicubic"),
        # one of its tags is unlike the others
        ("ViT-L-14", OPENAI, "bicubic"),
        # without a tag
        ("swin_base_patch4_window7_224", OPENAI, "bicubic"),
    ],
)
def test_weights_without_a_tag(name: str, pixels: tuple[object, object], interpolation: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.touch()
    for pretrained in (RANDOM, str(file)):
        described = describe(name, pretrained)
        spec = spec_of(described.config, described.preprocess)
        assert (spec.mean, spec.std) == pixels and spec.interpolation == interpolation


def test_every_model_has_the_pixels_of_one_of_its_tags() -> None:
    checked = 0
    for name in open_clip.list_models():
        if refusal(open_clip.get_model_config(name) or {}) is not None:
            continue
        rows = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
        found = describe(name, RANDOM).preprocess
        assert not rows or any(found == {key: row[key] for key in found} and len(found) == 3 for row in rows), name
        checked += bool(rows)
    assert checked > 50
