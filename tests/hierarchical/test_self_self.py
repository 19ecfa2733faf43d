"""Self-self attention in FastViT's last stage against a literal statement of it: dense maps, row by row, on timm's own modules."""

import math
from dataclasses import replace
from typing import Any

import open_clip
import pytest
import timm
import torch
from torch import Tensor

from fastloc.checkpoints.hierarchical import fastvit as layout
from fastloc.checkpoints.hierarchical import fastvit_folding, spec, tree
from fastloc.checkpoints.hierarchical.take import Take
from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD
from fastloc.errors import RecipeError
from fastloc.functional.hierarchical import fastvit, self_self
from fastloc.recipes import Recipe, recipe
from fastloc.reference import entropy_matching, procrustes
from towers import error

# few blocks of few channels; a BatchNorm before attention, or a LayerNorm
NARROW: dict[str, tuple[str, layout.Arch]] = {
    "small": ("fastvit_mci0", layout.Arch((1, 1, 1, 2), (48, 48, 96, 96), 3, 1, (2, 3), layer_norm=False, stem_scales=True)),
    "large": ("fastvit_mci3", layout.Arch((1, 1, 1, 1, 2), (48, 48, 96, 96, 96), 4, 2, (), layer_norm=True, stem_scales=False)),
}
# by block, head, stream and pass
TABLE = tuple(tuple(tuple((1.0 + block + 2 * head + 3 * stream,) for stream in range(2)) for head in range(3)) for block in range(2))
# every kind of term, temperature, norm, start and end
METHODS = {
    "clearclip": recipe("clearclip"),
    "naclip": recipe("naclip", bias_std=1.5),
    "sclip": recipe("sclip"),
    "maskclip": recipe("maskclip"),
    "cliptrase": recipe("cliptrase"),
    "clip_surgery": recipe("clip_surgery", blocks=2),
    "gem": recipe("gem", blocks=2),
    "gem_calibrated": recipe("gem_calibrated", blocks=2, inv_temp=3.0),
    "gem_matched": recipe("gem_matched", blocks=1),
    "a temperature a block, head and stream": recipe("clip_surgery", blocks=2, terms=("qq", "kk"), unit=True, inv_temp=TABLE),
    "pearl": recipe("pearl"),
    "terms and the values themselves": recipe("clip_surgery", blocks=1, terms=("vv", "identity", "qk")),
}


def module(kind: str) -> Any:
    """timm's own in float64, with weights that leave no part without effect."""
    name, arch = NARROW[kind]
    generator = torch.Generator().manual_seed(3)
    made = timm.create_model(name, layers=arch.depths, embed_dims=arch.dims, num_classes=16).eval().double().requires_grad_(False)
    for each, tensor in [*made.named_parameters(), *made.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        drawn = torch.randn(tensor.shape, generator=generator).double()
        if each.endswith("running_var"):
            tensor.copy_(1 + 0.3 * drawn.abs())
        elif each.endswith("gamma") or (tensor.ndim == 1 and each.endswith("weight")):
            tensor.copy_(1 + 0.2 * drawn)
        else:
            tensor.copy_(drawn * (0.2 if tensor.ndim == 1 else tensor[0].numel() ** -0.5))
    return made


def trunk_of(own: Any, kind: str) -> layout.Trunk:
    return layout.trunk(NARROW[kind][1], Take(own.state_dict()))


def pixels(kind: str) -> Tensor:
    stride = NARROW[kind][1].stride
    return torch.randn(2, 3, 3 * stride, 4 * stride, generator=torch.Generator().manual_seed(1)).double()


def found(own: Any, kind: str, method: Recipe, gate: str = "encoder") -> tuple[Tensor, Tensor]:
    prepared = self_self.prepare(trunk_of(own, kind), method, gate)
    return self_self.finish(prepared, fastvit.tokens(prepared.trunk, pixels(kind)))


def literal(own: Any, kind: str, method: Recipe, gate: str) -> tuple[Tensor, Tensor]:
    """The last map of the local path and of the encoder, by timm's modules and dense attention maps."""
    x = own.stem(pixels(kind))
    for stage in own.stages[:-1]:
        x = stage(x)
    last = own.stages[-1]
    x = last.pos_emb(last.downsample(x))
    first, local = len(last.blocks) - method.blocks, torch.zeros_like(x)
    for i, block in enumerate(last.blocks):
        if i == first and method.residual:
            local = x
        if i >= first:
            local = local + block.layer_scale_1(literal_branch(block, x, method, i - first))
        x = block(x)
    local = x if method.blocks == 0 else local
    if method.mlp:
        local = local + last.blocks[-1].layer_scale_2(last.blocks[-1].mlp(local))
    final = own.final_conv
    convolved = [final.conv_kxk[0](each) + final.conv_scale(each) for each in (local, x)]
    gates = [torch.sigmoid(final.se.fc2(torch.relu(final.se.fc1(each.mean((2, 3), keepdim=True))))) for each in convolved]
    return final.act(convolved[0] * gates[gate == "encoder"]), final.act(convolved[1] * gates[1])


def literal_branch(block: Any, x: Tensor, method: Recipe, index: int) -> Tensor:
    """The terms' attention and the out-projection, picture by picture and head by head."""
    normed, grid = block.norm(x), (x.shape[2], x.shape[3])
    width, count = x.shape[1], grid[0] * grid[1]
    out = torch.zeros_like(x)
    for b in range(len(x)):
        cells = [normed[b, :, row, column] for row in range(grid[0]) for column in range(grid[1])]
        adaptive = sum(float((cell * cell).sum()) ** 0.5 for cell in cells) / count * 32**-0.5
        projected = torch.stack([block.token_mixer.qkv.weight @ cell for cell in cells])
        gathered = torch.zeros(count, width).double()
        for head in range(width // 32):
            at = [slice(part * width + head * 32, part * width + (head + 1) * 32) for part in range(3)]
            given = {letter: projected[:, each] for letter, each in zip("qkv", at, strict=True)}
            total = sum(literal_map(term, given, method, adaptive, grid, (index, head)) for term in method.terms)
            total = total if method.combine == "sum" else total / len(method.terms)
            gathered[:, head * 32 : (head + 1) * 32] = total @ given["v"]
        projection = block.token_mixer.proj
        for i in range(count):
            out[b, :, i // grid[1], i % grid[1]] = projection.weight @ gathered[i] + projection.bias
    return out


def literal_map(
    term: str, given: dict[str, Tensor], method: Recipe, adaptive: float, grid: tuple[int, int], at: tuple[int, int]
) -> Tensor:
    """One term's map of one head, [P, P]."""
    count = grid[0] * grid[1]
    if term == "identity":
        return torch.eye(count).double()
    if term == "procrustes":
        return softmax(procrustes.products(given["q"], given["k"], 0, method.procrustes_weight) * 32**-0.5)
    left, right = given[term[0]], given[term[1]]
    if isinstance(method.inv_temp, tuple):
        by = method.inv_temp[at[0]][at[1]][method.streams.index(term)][0]
    elif method.inv_temp == "matched":
        by = float(entropy_matching.solved(unit(left)[None, None], method.rho or 0.0))
    else:
        by = adaptive if method.inv_temp == "adaptive" else 32**-0.5 if method.inv_temp is None else float(method.inv_temp)
    for _ in range(method.iterations):
        left = unit(left)
        left = right = softmax(by * left @ left.T) @ left
    if method.unit:
        left, right = unit(left), unit(right)
    logits = by * left @ right.T
    if method.bias_std is not None:
        for i in range(count):
            for j in range(count):
                squared = (i // grid[1] - j // grid[1]) ** 2 + (i % grid[1] - j % grid[1]) ** 2
                logits[i, j] += math.exp(-squared / (2 * method.bias_std**2))
    return softmax(logits)


def softmax(logits: Tensor) -> Tensor:
    powers = torch.exp(logits - logits.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True))


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_its_literal_statement(kind: str, method: str) -> None:
    own = module(kind)
    for gate in self_self.GATES:
        maps, expected = found(own, kind, METHODS[method], gate), literal(own, kind, METHODS[method], gate)
        assert error(maps[0], expected[0]) < 1e-10, gate
        assert error(maps[1], expected[1]) < 1e-10, "the encoder's own map does not change"
        assert error(maps[0], maps[1]) > 1e-2, "another map than the encoder's"


@pytest.mark.parametrize("kind", NARROW)
def test_the_encoder_s_own_attention_gives_its_own_map(kind: str) -> None:
    own = module(kind)
    features = own.forward_features(pixels(kind))
    embedding = own.forward_head(features)
    for method in (recipe("itsm"), recipe("sclip", terms=("qk",))):
        for gate in self_self.GATES:
            local, encoder = found(own, kind, method, gate)
            assert error(local, features) < 1e-10 and error(encoder, features) < 1e-10
            cells = local.flatten(2).transpose(1, 2) @ own.head.fc.weight.T + own.head.fc.bias
            assert error(cells.mean(1), embedding) < 1e-10


def test_the_gate_is_of_the_map_that_is_named() -> None:
    maps = [found(module("small"), "small", METHODS["clearclip"], gate)[0] for gate in self_self.GATES]
    assert error(maps[0], maps[1]) > 1e-3


def test_a_cell_that_changes_reaches_its_neighbours_through_the_final_convolution_alone() -> None:
    own = module("small")
    prepared = self_self.prepare(trunk_of(own, "small"), recipe("maskclip", residual=False, mlp=False))
    x = fastvit.tokens(prepared.trunk, pixels("small"))
    other = x.clone()
    other[:, :, 0, 0] += 1
    # values alone, and the gate of a map that the change does not reach
    prepared = replace(prepared, trunk=replace(prepared.trunk, final=replace(prepared.trunk.final, excite=None)))
    one_block = replace(prepared.trunk.stages[-1], blocks=prepared.trunk.stages[-1].blocks[-1:])
    prepared = replace(prepared, trunk=replace(prepared.trunk, stages=(*prepared.trunk.stages[:-1], one_block)))
    moved = (self_self.finish(prepared, other)[0] - self_self.finish(prepared, x)[0]).abs().amax((0, 1)) > 1e-9
    assert moved[:2, :2].all() and not moved[2:].any() and not moved[:, 2:].any()


def test_gradients_are_those_of_finite_differences() -> None:
    prepared = self_self.prepare(trunk_of(module("small"), "small"), METHODS["gem_calibrated"])
    x = fastvit.tokens(prepared.trunk, pixels("small"))[:1, :, :2, :2].contiguous().requires_grad_()
    towards = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).double()
    (gradient,) = torch.autograd.grad(self_self.finish(prepared, x)[0].square().sum(), x)
    step = 1e-5
    with torch.no_grad():
        ends = [self_self.finish(prepared, x + sign * step * towards)[0].square().sum() for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    assert error((gradient * towards).sum()[None], slope[None]) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (recipe("gem"), r"blocks of 'gem' on a FastViT must be at most the 2 of its last stage, got 6; give blocks=2"),
        (recipe("grad_cam"), "'grad_cam' is one of plain transformers"),
        (recipe("sfp"), "'sfp' is one of plain transformers"),
        (recipe("resclip"), "'resclip' reads middle blocks' attention"),
        (recipe("clearclip", registers=1), "registers of 'clearclip' means nothing on a FastViT: there are no tokens in front"),
        (recipe("eclip"), "trained of 'eclip' means nothing on a FastViT"),
    ],
)
def test_recipes_that_are_no_local_path(changes: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        self_self.prepare(trunk_of(module("small"), "small"), changes)


@pytest.mark.parametrize("kind", NARROW)
def test_a_trunk_that_is_folded_already_gives_the_same(kind: str) -> None:
    plain = trunk_of(module(kind), kind)
    for method in (METHODS["gem"], METHODS["clearclip"]):
        one, other = (self_self.prepare(each, method) for each in (plain, fastvit_folding.folded(plain)))
        x = fastvit.tokens(plain, pixels(kind))
        assert error(self_self.finish(other, x)[0], self_self.finish(one, x)[0]) < 1e-10


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_other_dtypes(dtype: torch.dtype, most: float) -> None:
    plain = trunk_of(module("small"), "small")
    for method in (METHODS["gem"], METHODS["naclip"]):
        wide = self_self.prepare(plain, method)
        narrow = self_self.prepare(tree.mapped(fastvit_folding.folded(plain), Tensor, lambda each: each.to(dtype)), method)
        x = fastvit.tokens(wide.trunk, pixels("small"))
        maps, expected = self_self.finish(narrow, x.to(dtype)), self_self.finish(wide, x)
        assert all(each.dtype == dtype and error(each, other) < most for each, other in zip(maps, expected, strict=True))


def test_gates_and_tables_that_do_not_fit() -> None:
    trunk = trunk_of(module("small"), "small")
    with pytest.raises(RecipeError, match="unknown gate 'both'"):
        self_self.prepare(trunk, METHODS["clearclip"], "both")
    with pytest.raises(RecipeError, match="inv_temp table must be for the model's 3 heads, got 2"):
        self_self.prepare(trunk, recipe("clip_surgery", blocks=1, unit=True, inv_temp=((((2.0,),), ((2.0,),)),)))


@pytest.mark.parametrize("name", [name for name in open_clip.list_models() if name.startswith("MobileCLIP") and "-S" in name])
def test_pixels_and_resize_are_those_of_the_weights(name: str) -> None:
    config, tags = open_clip.get_model_config(name), open_clip.list_pretrained_tags_by_model(name)
    assert config is not None and tags
    for tag in tags:
        read = spec.from_open_clip(config, open_clip.get_pretrained_cfg(name, tag))
        wide = name.endswith(("S3", "S4"))
        assert (read.mean, read.std) == ((OPENAI_MEAN, OPENAI_STD) if wide else ((0.0,) * 3, (1.0,) * 3))
        assert read.interpolation == "bilinear" and read.head == "trunk"
        assert (read.image, read.grid) == ((256, 256), (4, 4) if wide else (8, 8))
