"""The relevance of a text's words for its score with a picture: Bi-Modal's relevance on the text tower.

The text tower is a transformer of the image tower's blocks with a causal mask, read at the token that ends the text.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastloc.checkpoints import vit_layouts
from fastloc.checkpoints.text.cut import Cut
from fastloc.checkpoints.text_encoder import causal, text_state
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.checkpoints.vit_weights import Weights
from fastloc.errors import ModelError, RecipeError
from fastloc.functional import vit
from fastloc.functional.block_trace import trace, walk_down
from fastloc.functional.op_set import TORCH
from fastloc.functional.position_embedding import Positions
from fastloc.functional.target import ALL, differentiated
from fastloc.imaging import images
from fastloc.recipes import Recipe, recipe
from fastloc.text.prompts import checked

if TYPE_CHECKING:
    from fastloc.engine.localizer import Localizer


def text_relevance(localizer: "Localizer", image: Any, text: str, start: int = 0) -> list[tuple[str, float]]:
    """The tokens of a text, in order, each with its share in the text's relevance: [(token, share)], of sum 1, or all 0.

    Bi-Modal (Chefer et al., ICCV 2021, CLIP_explainability.ipynb of hila-chefer/Transformer-MM-Explainability): the row of the token that
    ends the text, without the one that starts it. The prompt is taken as it is, without a template.

    Args:
        image: anything `fastloc.imaging.images.load` takes.
        start: the first block of the text tower that is read, counted from the end if negative; 0 reads all blocks, as in the
            repository's example, -1 only the last, as in its notebook.

    Raises:
        ModelError: the image tower is no ViT, or the text tower does not read its result at the end of the text.
        RecipeError: the text tower has no such block. ImageError, TextError: a picture or a text that cannot be used.
    """
    (prompt,) = checked([text])
    encoder = localizer.source.text
    tower = text_weights(encoder.tower)
    if not -tower.spec.layers <= start < tower.spec.layers:
        raise RecipeError(f"start must be a block of the text tower, 0 … {tower.spec.layers - 1}, got {start}")
    with torch.inference_mode():
        ids, nothing = encoder.tokenizer([prompt, ""])
        # the tower defines the id that ends a text, and not every tokenizer adds one that starts it
        cut: Cut = getattr(encoder.tower, "cut", None) or Cut("highest")
        ids = ids[: cut.columns(ids[None])].cpu()
        starts = int(cut.columns(nothing[None]) > 1)
        embedded = text_state(encoder.tower)["token_embedding.weight"].float().cpu()[ids] + tower.pos[: len(ids)]
        shares = shares_of(tower, embedded[None], _embedding(localizer, image), start, localizer.logit_scale, starts)
    return [(_word(encoder.tokenizer, int(each)), float(share)) for each, share in zip(ids[starts:-1], shares, strict=True)]


def shares_of(tower: Weights, embedded: Tensor, image: Tensor, start: int, scale: float, starts: int = 1) -> Tensor:
    """The shares [N - starts - 1] of embedded tokens [1, N, C] for an image embedding [E].

    The first `starts` tokens start the text, and the last one ends it.
    """
    count = embedded.shape[1]
    mask = torch.full((count, count), -torch.inf, dtype=embedded.dtype).triu(1)
    x, found = embedded, []
    for block in tower.blocks:
        found.append(trace(block, x, None, tower.spec, TORCH, Positions(tower.pos), bias=mask))
        x = found[-1].out
    row = Recipe("text", "", "", reads="bi-modal", target="logit", target_scale=scale, readout=recipe("bi_modal").readout)
    at_end, strength = differentiated(tower, x[:, -1:], nn.functional.normalize(image, dim=-1)[None], row)
    gradient = torch.cat([torch.zeros_like(x[:, None, :-1]), at_end], 2)
    first = torch.zeros_like(x[:, None, :, 0])
    first[..., -1] = 1
    relevance = walk_down(found[start:], ALL, gradient, first, strength, None)[0, 0, starts:-1]
    return relevance / relevance.sum().clamp_min(torch.finfo(relevance.dtype).tiny)


def text_weights(tower: Any) -> Weights:
    """An open_clip text tower in the image tower's form, float32 on the CPU. Raises ModelError for one that is no causal transformer."""
    inner = causal(tower)
    if inner is None:
        raise ModelError("the text tower has no causal mask, or is not read at the end of the text: its relevance would be of another row")
    state = {name: tensor.detach().float().cpu() for name, tensor in text_state(tower).items()}
    first, width = inner.transformer.resblocks[0], state["ln_final.weight"].shape[0]
    projection = state.get("text_projection")
    if projection is None:
        # a linear module's weight, [out, in]
        projection = state["text_projection.weight"].T if "text_projection.weight" in state else torch.eye(width)
    spec = ModelSpec(
        width=width, layers=len(inner.transformer.resblocks), heads=first.attn.num_heads, patch=(1, 1), image=(1, 1),
        embed=projection.shape[1], hidden=first.mlp.c_fc.out_features, layer_scale=hasattr(first.ls_1, "gamma"),
        activation=_activation(first.mlp), norm_eps=first.ln_1.eps,
    )  # fmt: skip
    blocks = vit_layouts.text_blocks(state, spec)
    nothing = torch.zeros(0, width)
    return Weights(spec, nothing, nothing, state["positional_embedding"], None, None, blocks, state["ln_final.weight"],
                   state["ln_final.bias"], projection, state.get("text_projection.bias"))  # fmt: skip


def _activation(mlp: Any) -> str:
    if type(mlp.gelu).__name__ == "QuickGELU":
        return "quick_gelu"
    return "gelu_tanh" if mlp.gelu.approximate == "tanh" else "gelu"


def _embedding(localizer: "Localizer", image: Any) -> Tensor:
    picture = images.load(image)
    pixels = localizer.pixels(picture, localizer.geometry(picture.size[::-1]))
    embedding = vit.forward(localizer.source.vit, pixels[None], recipe("itsm"), cls=True).cls
    assert embedding is not None
    return embedding[0]


def _word(tokenizer: Any, token: int) -> str:
    decoder = tokenizer if hasattr(tokenizer, "decode") else tokenizer.tokenizer
    return str(decoder.decode([token])).strip()
