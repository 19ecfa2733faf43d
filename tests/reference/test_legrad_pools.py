"""LeGrad where a MAP head makes the embedding: the steps of the published code on timm's own tower, which is loaded from its state dict."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fastloc.checkpoints import vit_layouts
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.functional.similarity import grids
from fastloc.recipes import recipe
from towers import array, error, pixels

WIDTH, LAYERS, HEADS, PATCH = 32, 3, 4, 8


@pytest.fixture(scope="module")
def trunk() -> Any:
    """A small SigLIP tower of timm's, float64, no part of which is without effect."""
    vision_transformer = pytest.importorskip("timm.models.vision_transformer")
    made = vision_transformer.VisionTransformer(
        img_size=4 * PATCH, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, mlp_ratio=2.5, num_classes=0,
        class_token=False, global_pool="map",
    )  # fmt: skip
    with torch.no_grad():
        for name, each in made.named_parameters():
            middle = float("norm" in name and name.endswith("weight"))
            each.copy_(array(name, *each.shape, low=middle - 0.3, high=middle + 0.3))
    return made.double().eval()


def attended(pool: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """timm's AttentionPoolLatent with its attention as a value: what it makes of x [1, N, C], and the map [1, H, 1, N]."""

    def by_head(each: Tensor) -> Tensor:
        return each.reshape(1, -1, HEADS, WIDTH // HEADS).transpose(1, 2)

    q, (k, v) = by_head(pool.q(pool.latent)), (by_head(each) for each in pool.kv(x).chunk(2, -1))
    attention = (q * pool.scale @ k.mT).softmax(-1)
    out = pool.proj((attention @ v).transpose(1, 2).flatten(2))
    return (out + pool.mlp(pool.norm(out)))[:, 0], attention


@pytest.mark.slow("imports timm")
@pytest.mark.parametrize("start", [-2, 0])
def test_of_siglip(trunk: Any, start: int) -> None:
    """compute_legrad_siglip of legrad/wrapper.py without its correction: the pool reads every block's output as it is."""
    spec = ModelSpec(
        width=WIDTH, layers=LAYERS, heads=HEADS, patch=(PATCH, PATCH), image=(4 * PATCH, 4 * PATCH), embed=WIDTH, hidden=80,
        class_token=False, ln_pre=False, norm_eps=trunk.norm.eps, pool="attn", pool_heads=HEADS,
    )  # fmt: skip
    weights = vit_layouts.from_open_clip({f"visual.trunk.{name}": each for name, each in trunk.state_dict().items()}, spec)
    picture, words = pixels(1, (4, 4)), normalize(array("texts", 3, WIDTH, low=-1.0), dim=-1)
    outs: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda module, inputs, out: outs.append(out)) for block in trunk.blocks]
    embedding = trunk(picture)
    for each in hooks:
        each.remove()
    assert error(attended(trunk.attn_pool, trunk.norm(outs[-1]))[0].detach(), embedding.detach()) < 1e-12
    expected = torch.zeros(len(words), 16, dtype=torch.float64)
    for out in outs[start:]:
        feature, attention = attended(trunk.attn_pool, out)
        for index, word in enumerate(words):
            (grad,) = torch.autograd.grad((word * normalize(feature, dim=-1)).sum(), attention, retain_graph=True)
            expected[index] += grad.clamp(min=0).mean(1)[0, 0]
    found, scores = grids(weights.to(dtype=torch.float64), picture, words, recipe("legrad", start=start))
    assert error(found.detach(), expected.reshape(1, 3, 4, 4)) < 1e-10
    assert scores is not None and error(scores.detach(), (normalize(embedding, dim=-1) @ words.T).detach()) < 1e-10
