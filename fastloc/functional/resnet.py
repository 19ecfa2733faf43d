"""CLIP's ResNets as functions: `forward(weights, pixels, recipe) -> Output`. Nothing is hooked; BatchNorm is folded into the convolutions.

There is one attention, the pool's, over the mean of the last stage's positions and the positions themselves. A row of `FORMS` describes
what a method reads of it; methods without a row exist only on transformers. The pool's embedding of one position alone is linear, since
a softmax over one key is 1, so values and output projection are one matrix.
"""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fastloc.checkpoints.resnet_spec import STRIDE, ResNetSpec
from fastloc.checkpoints.resnet_weights import Bottleneck, Conv, Pool, ResNetWeights, folded
from fastloc.errors import RecipeError, unknown
from fastloc.functional import readout
from fastloc.functional.attention import Attend, attend
from fastloc.functional.hierarchical.inputs import check_input
from fastloc.functional.methods.cam import WEIGHINGS
from fastloc.functional.methods.pool_gradients import PoolGradients
from fastloc.functional.output import Output
from fastloc.functional.position_embedding import resized_position
from fastloc.functional.similarity import Read
from fastloc.functional.slices import in_parts
from fastloc.functional.target import at_unit_embedding
from fastloc.recipes import RECIPES, Recipe
from fastloc.recipes import recipe as named
from fastloc.recipes.validation import positive

Grid = tuple[int, int]
Linear = tuple[Tensor, Tensor]

# the targets that Grad-CAM differentiates here: those of the recipe's that score the image embedding
TARGETS = ("cosine", "logit", "softmax")
# texts whose maps wait for each other, see `fastloc.functional.slices`: a number that a file with open sizes can hold
TOGETHER = 16
# CLIP Surgery's addition to a key's length before dividing by it
UNIT_EPS = 1e-6


@dataclass(frozen=True)
class Form:
    """The parts of a ResNet that a method reads.

    position: the pool's position embedding is added to the positions.
    attends: v-v attention of the mean token and all positions, else every position alone through values and output projection, or, where
        the recipe's term is "qk", by the pool's own attention.
    relevance: Grad-CAM on the last stage.
    fields: the recipe's fields that have an effect here, besides its read-out, template and fit.
    """

    position: bool = True
    attends: bool = False
    relevance: bool = False
    fields: tuple[str, ...] = ("position", "keep_position")


_RAW = Form(fields=("position", "keep_position", "terms"))
FORMS = {
    # the raw map and its reverse: each position alone, or, as released (clip_model.py of CLIP Surgery), all of them by the pool's attention
    "itsm": _RAW,
    "rclip": _RAW,
    # MaskCLIP's head (maskclip_head.py): two 1x1 convolutions on the last stage, without position embedding and mean token
    "maskclip": Form(position=False, fields=()),
    # the released surgery (clip_surgery_model.py, AttentionPool2d): q = k = v. unit=True is its unused ResNet branch, see `attended`
    "clip_surgery": Form(attends=True, fields=("position", "keep_position", "unit", "inv_temp")),
    "grad_cam": Form(relevance=True, fields=("position", "keep_position", "target", "target_scale", "cam")),
}
# the fields that any method may change
_EVERYWHERE = ("readout", "template", "fit")


@dataclass(frozen=True)
class Prepared:
    """One tower, folded for one recipe."""

    weights: ResNetWeights  # folded
    recipe: Recipe
    form: Form
    value: Linear  # values and output projection as one matrix [E, C]
    pool: Pool  # in float32 at least where gradients are formed of it, else the weights' own


def forward(weights: ResNetWeights, pixels: Tensor, recipe: Recipe, *, cls: bool = False) -> Output:
    """Run the image tower the way `recipe` says, in plain PyTorch; differentiable.

    Args:
        weights: of any floating dtype; it is the dtype of the whole pass.
        pixels: [B, 3, H, W], normalised, H and W multiples of 32, any batch and any such size.
        cls: also return the image embedding: the encoder's own, except that CLIP Surgery's is that of its v-v attention, as released.

    Raises:
        ModelError: the shape of `pixels` does not fit. RecipeError: the method does not exist on ResNets, or reads text gradients
        (`relevance` is its function).
    """
    check_pixels(pixels)
    prepared = prepare(weights, recipe)
    if prepared.form.relevance:
        raise RecipeError(
            f"method {recipe.name!r} has no patch features of its own: call fastloc.functional.resnet.relevance with the texts"
        )
    x = features(prepared.weights, pixels)
    return encode(prepared, x, position_table(weights, (x.shape[2], x.shape[3]), recipe), cls=cls)


def check(recipe: Recipe, spec: ResNetSpec, name: str = "this model") -> None:
    """Raise RecipeError for a method that does not exist on ResNets, and for a changed field that nothing there reads."""
    if recipe.name not in FORMS:
        known = ", ".join(each for each in FORMS if each in RECIPES)
        raise RecipeError(f"method {recipe.name!r} is one of transformers, and {name} is a ResNet; on ResNets there are: {known}")
    form = FORMS[recipe.name]
    # the authors' form too, some of whose fields have no effect here
    usual = [named(recipe.name, official=official) for official in (False, True)] if recipe.name in RECIPES else [recipe]
    for field in fields(Recipe):
        values = [getattr(row, field.name) for row in usual]
        if getattr(recipe, field.name) not in values and field.name not in (*form.fields, *_EVERYWHERE):
            meant = ", ".join((*form.fields, "order, score, logit_scale, reverse, template and fit"))
            raise RecipeError(f"{field.name} means nothing to {recipe.name!r} on a ResNet, and {name} is one; what can be changed: {meant}")
    if "terms" in form.fields and recipe.terms not in ((), ("qk",)):
        raise RecipeError(
            f"terms of {recipe.name!r} on a ResNet must be () for each position alone or ('qk',) for its pool's attention, "
            f"got {recipe.terms!r}; 'clip_surgery' has v-v attention"
        )
    if form.relevance and recipe.target not in TARGETS:
        raise RecipeError(unknown("target on ResNets", recipe.target, TARGETS))
    if recipe.inv_temp is not None and not positive(recipe.inv_temp):
        raise RecipeError(f"inv_temp must be a number above 0 or None for a ResNet's one attention, got {recipe.inv_temp!r}")


def prepare(weights: ResNetWeights, recipe: Recipe) -> Prepared:
    """Fold `weights` for `recipe`. Raises RecipeError, see `check`."""
    check(recipe, weights.spec)
    tower, form = folded(weights), FORMS[recipe.name]
    return Prepared(tower, recipe, form, _value(tower.pool), _wide(tower.pool) if form.relevance else tower.pool)


def features(weights: ResNetWeights, pixels: Tensor) -> Tensor:
    """The last stage's output of folded weights: [B, 3, H, W] -> [B, C, H/32, W/32], not negative.

    In float32 on a GPU convolutions follow PyTorch's own setting for TF32.
    """
    x = pixels.to(weights.dtype)
    for i, each in enumerate(weights.stem):
        x = convolved(x, each, stride=2 if i == 0 else 1)
    x = F.avg_pool2d(x, 2)
    for stage in weights.stages:
        for block in stage:
            x = bottleneck(x, block)
    return x


def bottleneck(x: Tensor, block: Bottleneck) -> Tensor:
    """One bottleneck: [B, c, h, w] -> [B, c', h / stride, w / stride]; strides are average pools."""
    one, two, three = block.convs
    y, skip = convolved(convolved(x, one), two), x
    if block.stride > 1:
        y, skip = F.avg_pool2d(y, block.stride), F.avg_pool2d(x, block.stride)
    if block.skip is not None:
        skip = convolved(skip, block.skip, relu=False)
    return F.relu(convolved(y, three, relu=False) + skip)


def convolved(x: Tensor, conv: Conv, *, stride: int = 1, relu: bool = True) -> Tensor:
    """A folded convolution that keeps the size, and its ReLU."""
    y = F.conv2d(x, conv.kernel, conv.bias, stride, conv.kernel.shape[-1] // 2)
    return F.relu(y) if relu else y


def position_table(weights: ResNetWeights, grid: Grid, recipe: Recipe) -> Tensor:
    """The pool's position embedding of this grid, [1+P, C], the mean token's row first."""
    return resized_position(weights.pool.position, weights.spec.grid, grid, recipe.position, recipe.keep_position)


def answer(
    prepared: Prepared, x: Tensor, table: Tensor, texts: Tensor, read: Read, *, cls: bool = False, beside: Tensor | None = None,
    attend: Attend = attend,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Similarities [B, T, h, w] and, with `cls` or `beside`, the image embedding's cosines, from the last stage's output [B, C, h, w].

    read, beside: see `fastloc.functional.similarity.answer`. attend: the form of the pool's attention.
    """
    if prepared.form.relevance:
        return relevance(prepared, x, table, texts, beside)
    out = encode(prepared, x, table, cls=cls or beside is not None, attend=attend)
    return read(out, texts), readout.scores(out, texts if beside is None else torch.cat([texts, beside[None]]))


def encode(prepared: Prepared, x: Tensor, table: Tensor, *, cls: bool = False, attend: Attend = attend) -> Output:
    """Patch features and, with `cls`, the image embedding, from the last stage's output [B, C, h, w]."""
    pool, heads, grid = prepared.pool, prepared.weights.spec.heads, (x.shape[2], x.shape[3])
    positions = x.flatten(2).transpose(1, 2)
    if prepared.form.attends:
        rows = attended(pool, tokens(positions, table), heads, prepared.recipe, attend)
        return Output(rows[:, 1:], rows[:, 0] if cls else None, grid)
    if "terms" in prepared.form.fields and prepared.recipe.terms:
        rows = own_attention(pool, tokens(positions, table), heads, attend=attend)
        return Output(rows[:, 1:], rows[:, 0] if cls else None, grid)
    read = positions + table[1:] if prepared.form.position else positions
    embedding = _mean_row(pool, positions, table, heads, attend) if cls else None
    return Output(F.linear(read, *prepared.value), embedding, grid)


def image_embedding(weights: ResNetWeights, pixels: Tensor, table: Tensor) -> Tensor:
    """The encoder's own image embedding alone, not normalised, by folded weights: [B, 3, H, W] -> [B, E]; table: `position_table`."""
    return _mean_row(weights.pool, features(weights, pixels).flatten(2).transpose(1, 2), table, weights.spec.heads)


def tokens(positions: Tensor, table: Tensor) -> Tensor:
    """The tokens that the pool attends over: the mean and the positions, with their position embedding. [B, P, C] -> [B, 1+P, C]."""
    return torch.cat([positions.mean(1, keepdim=True), positions], 1) + table


def attended(pool: Pool, x: Tensor, heads: int, recipe: Recipe, attend: Attend = attend) -> Tensor:
    """CLIP Surgery's pool: softmax(v v^T s) v through the output projection, [B, 1+P, C] -> [B, 1+P, E].

    As released, s is head_width^-0.5 for every row. With `unit` keys and queries are of unit length, but not for the mean token's row;
    the paper's form for ResNets has 8 head_width^-0.5 there, which is inv_temp=1.0 in every open_clip ResNet (64 numbers a head).
    """
    v = _heads(F.linear(x, pool.v_w, pool.v_b), heads)
    usual = v.shape[3] ** -0.5
    assert recipe.inv_temp is None or isinstance(recipe.inv_temp, (int, float))
    key = _unit(v) if recipe.unit else v
    out = attend(key, key, v, usual if recipe.inv_temp is None else recipe.inv_temp, None)
    if recipe.unit or recipe.inv_temp is not None:
        # the row of the mean token stays as released
        out = torch.cat([attend(v[:, :1], v, v, usual, None), out[:, 1:]], 1)
    return F.linear(out, pool.out_w, pool.out_b)


def own_attention(pool: Pool, x: Tensor, heads: int, rows: int | None = None, attend: Attend = attend) -> Tensor:
    """The pool's attention of its first tokens, `rows` or all, over all of them: [B, 1+P, C] -> [B, rows, E].

    The mean token's row is the encoder's image embedding.
    """
    q = _heads(F.linear(x[:, :rows], pool.q_w, pool.q_b), heads)
    k, v = (_heads(F.linear(x, *each), heads) for each in ((pool.k_w, pool.k_b), (pool.v_w, pool.v_b)))
    return F.linear(attend(q, k, v, q.shape[3] ** -0.5, None), pool.out_w, pool.out_b)


def relevance(prepared: Prepared, x: Tensor, table: Tensor, texts: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Grad-CAM, Grad-CAM++ or LayerCAM on the last stage, as the recipe's `cam` says.

    Returns maps [B, T, h, w], not negative, and the cosines of image and texts [B, T], float32 at least. Of Grad-CAM:

    M = ReLU(sum_k a_k f_k) with a_k the mean over positions of dy/df_k (Selvaraju et al., ICCV 2017, equations 1 and 2), y the recipe's
    target; for all texts at once and in closed form. With a the attention of the mean token's query q, o the gradient at the input of the
    output projection and s the scale of the attention,

        sum over positions of dy/df = W_v^T o + W_q^T sum_n s a_n (o v_n - sum_m a_m o v_m) k_n

    because attention sums to 1 over the tokens, the mean token passes its gradient on to the positions, and the keys' gradients sum to 0.
    The other two read the gradient at every position, see `fastloc.functional.methods.pool_gradients` and `cam`.

    Args: x [B, C, h, w], table [1+P, C], texts [T, E] of unit length; beside [E]: see `fastloc.functional.similarity.answer`.
    """
    pool, spec = prepared.pool, prepared.weights.spec
    positions = x.to(pool.position.dtype).flatten(2).transpose(1, 2)
    every = tokens(positions, table.to(positions.dtype))
    q = _by_head(F.linear(every[:, :1], pool.q_w, pool.q_b), spec.heads)
    k, v = (_by_head(F.linear(every, *each), spec.heads) for each in ((pool.k_w, pool.k_b), (pool.v_w, pool.v_b)))
    scale = spec.head_width**-0.5
    share = torch.softmax(scale * q @ k.transpose(-1, -2), -1)  # [B, H, 1, N]
    embedding = F.linear((share @ v).transpose(1, 2).flatten(1), pool.out_w, pool.out_b)
    texts = texts.to(embedding.dtype)
    unit = F.normalize(embedding, dim=-1)[:, None]  # [B, 1, E]
    compared = texts if beside is None else torch.cat([texts, beside[None].to(texts)])
    cosine = (unit @ compared.T)[:, 0]
    gradient, strength = at_unit_embedding(embedding, texts, prepared.recipe, prepared.weights.logit_scale)
    gradient = gradient - (gradient * unit).sum(-1, keepdim=True) * unit
    length = torch.linalg.vector_norm(embedding, dim=-1)[:, None, None]
    out = gradient / length @ pool.out_w  # [B, T, C]
    outputs = _by_head(out, spec.heads)
    product = outputs @ v.transpose(-1, -2)  # [B, H, T, N]
    slope = scale * (share * (product - (share * product).sum(-1, keepdim=True)))
    query = (slope @ k).transpose(1, 2).flatten(2)
    if prepared.recipe.cam != "grad-cam":
        gradients = PoolGradients(share[:, :, 0], slope, q[:, :, 0], outputs, query, pool.q_w, pool.k_w, pool.v_w)
        weigh, of_texts = WEIGHINGS[prepared.recipe.cam], strength.expand(x.shape[0], -1)
        stage = positions.transpose(1, 2).reshape(x.shape)

        def of(part: slice) -> Tensor:
            rows = (
                (gradients.at_positions(i) * of_texts[:, i, None, None]).transpose(1, 2).reshape(x.shape)
                for i in range(*part.indices(len(texts)))
            )
            return torch.stack([weigh(stage, each) for each in rows], 1)

        return in_parts(len(texts), 1, TOGETHER, of), cosine
    total = out @ pool.v_w + query @ pool.q_w
    maps = F.relu(total / positions.shape[1] @ positions.transpose(1, 2)) * strength[..., None]
    return maps.reshape(*maps.shape[:2], *x.shape[2:]), cosine


def check_pixels(pixels: Tensor) -> None:
    """Raise ModelError unless these are normalised floats [B, 3, H, W], H and W multiples of the stride."""
    check_input(pixels, (STRIDE, STRIDE), "ResNet's stride")


def _heads(x: Tensor, heads: int) -> Tensor:
    """Split channels into heads: [B, N, C] -> [B, N, H, d]."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads)


def _mean_row(pool: Pool, positions: Tensor, table: Tensor, heads: int, attend: Attend = attend) -> Tensor:
    return own_attention(pool, tokens(positions, table), heads, 1, attend)[:, 0]


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Split channels into heads: [B, N, C] -> [B, H, N, d]."""
    return _heads(x, heads).transpose(1, 2)


def _unit(v: Tensor) -> Tensor:
    """v over its length, which is computed in float32 at least."""
    lengths: Tensor = torch.linalg.vector_norm(v, dim=-1, keepdim=True, dtype=torch.promote_types(v.dtype, torch.float32))
    return (v / (lengths + UNIT_EPS)).to(v.dtype)


def _value(pool: Pool) -> Linear:
    accumulate_dtype = torch.promote_types(pool.v_w.dtype, torch.float32)
    out = pool.out_w.to(accumulate_dtype)
    return (out @ pool.v_w.to(accumulate_dtype)).to(pool.v_w.dtype), (out @ pool.v_b.to(accumulate_dtype) + pool.out_b).to(pool.v_w.dtype)


def _wide(pool: Pool) -> Pool:
    accumulate_dtype = torch.promote_types(pool.v_w.dtype, torch.float32)
    return replace(pool, **{each.name: getattr(pool, each.name).to(accumulate_dtype) for each in fields(Pool)})
