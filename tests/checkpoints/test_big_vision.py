"""big_vision's .npz of SigLIP: as open_clip's own converter reads it, whether blocks lie in one array or in many."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.convert import load_big_vision_weights
from open_clip.transformer import TextTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from fastloc.checkpoints import state_dicts
from fastloc.checkpoints.foreign import layouts
from fastloc.errors import ModelError

WIDTH, HEADS, LAYERS, INNER, PATCH, GRID, CONTEXT, WORDS = 32, 2, 3, 48, 8, 4, 9, 60


def arrays(stacked: bool, root: str = "params/") -> dict[str, np.ndarray]:
    """Random parameters by big_vision's names."""
    drawn = np.random.default_rng(0)
    head = WIDTH // HEADS

    def block() -> dict[str, tuple[int, ...]]:
        attention, mlp = "MultiHeadDotProductAttention_0", "MlpBlock_0"
        return {
            **{f"{attention}/{each}/kernel": (WIDTH, HEADS, head) for each in ("query", "key", "value")},
            **{f"{attention}/{each}/bias": (HEADS, head) for each in ("query", "key", "value")},
            f"{attention}/out/kernel": (HEADS, head, WIDTH), f"{attention}/out/bias": (WIDTH,),
            f"{mlp}/Dense_0/kernel": (WIDTH, INNER), f"{mlp}/Dense_0/bias": (INNER,),
            f"{mlp}/Dense_1/kernel": (INNER, WIDTH), f"{mlp}/Dense_1/bias": (WIDTH,),
            "LayerNorm_0/scale": (WIDTH,), "LayerNorm_0/bias": (WIDTH,),
        }  # fmt: skip

    norm = {"LayerNorm_1/scale": (WIDTH,), "LayerNorm_1/bias": (WIDTH,)}
    shapes: dict[str, tuple[int, ...]] = {
        "img/embedding/kernel": (PATCH, PATCH, 3, WIDTH), "img/embedding/bias": (WIDTH,), "img/pos_embedding": (1, GRID**2, WIDTH),
        "img/MAPHead_0/probe": (1, 1, WIDTH), **{f"img/MAPHead_0/{name}": shape for name, shape in block().items()},
        "txt/Embed_0/embedding": (WORDS, WIDTH), "txt/pos_embedding": (1, CONTEXT, WIDTH),
        "txt/head/kernel": (WIDTH, WIDTH), "txt/head/bias": (WIDTH,), "t": (1,), "b": (1,),
    }  # fmt: skip
    for start in ("img/Transformer", "txt/Encoder_0"):
        shapes |= {f"{start}/encoder_norm/{name}": (WIDTH,) for name in ("scale", "bias")}
        for name, shape in {**block(), **norm}.items():
            if stacked:
                shapes[f"{start}/encoderblock/{name}"] = (LAYERS, *shape)
            else:
                shapes |= {f"{start}/encoderblock_{index}/{name}": shape for index in range(LAYERS)}
    return {f"{root}{name}": drawn.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def official(path: Path) -> dict[str, torch.Tensor]:
    """open_clip's and timm's modules with the file's weights."""
    trunk = VisionTransformer(
        img_size=GRID * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, mlp_ratio=INNER / WIDTH, num_classes=0,
        class_token=False, global_pool="map",
    )  # fmt: skip
    text = TextTransformer(
        context_length=CONTEXT, vocab_size=WORDS, width=WIDTH, heads=HEADS, layers=LAYERS, mlp_ratio=INNER / WIDTH, output_dim=WIDTH,
        no_causal_mask=True, pool_type="last", proj_bias=True,
    )  # fmt: skip
    scale, bias = nn.Parameter(torch.ones([])), nn.Parameter(torch.ones([]))
    model: Any = SimpleNamespace(visual=SimpleNamespace(trunk=trunk), text=text, logit_scale=scale, logit_bias=bias)
    load_big_vision_weights(model, str(path))
    return {
        **{f"visual.trunk.{name}": tensor for name, tensor in trunk.state_dict().items()},
        **{f"text.{name}": tensor for name, tensor in text.state_dict().items() if name != "attn_mask"},
        "logit_scale": scale.detach()[None], "logit_bias": bias.detach()[None],
    }  # fmt: skip


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("root", ["params/", ""])
def test_tensors_are_those_of_open_clip_s_converter(stacked: bool, root: str, tmp_path: Path):
    np.savez(tmp_path / "siglip.npz", **arrays(stacked, root))
    found, expected = layouts.as_open_clip(state_dicts.read(tmp_path / "siglip.npz")), official(tmp_path / "siglip.npz")
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_damaged_files(tmp_path: Path):
    content = arrays(False)
    name = "params/img/Transformer/encoderblock_1/MultiHeadDotProductAttention_0/query/kernel"
    np.savez(tmp_path / "x.npz", **{**content, name: content[name].reshape(WIDTH, WIDTH)})
    with pytest.raises(ModelError, match=f"'{name.removeprefix('params/')}' must have 3 axes, got 2"):
        state_dicts.read(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", **{key: each for key, each in content.items() if key != name})
    with pytest.raises(ModelError, match=f"'{name.removeprefix('params/')}' is missing, which a SigLIP of big_vision's has"):
        layouts.as_open_clip(state_dicts.read(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", **{"img/MAPHead_0/probe": np.array([object()])})
    with pytest.raises(ModelError, match=r"is damaged \(ValueError\)"):
        state_dicts.read(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(ModelError, match=r"is damaged \(BadZipFile\)"):
        state_dicts.read(tmp_path / "x.npz")
