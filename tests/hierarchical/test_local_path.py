"""The local path of FastViT through the engine: methods of transformers in the last stage of a narrow tower."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F

from fastloc.checkpoints.hierarchical import fastvit as layout
from fastloc.checkpoints.hierarchical.parts import Linear
from fastloc.checkpoints.hierarchical.spec import HierarchicalSpec
from fastloc.checkpoints.hierarchical.weights import Head, HierarchicalWeights
from fastloc.engine.hierarchical.engine import HierarchicalEngine, HierarchicalTower
from fastloc.errors import RecipeError
from fastloc.functional.hierarchical import fastvit, forms, self_self
from fastloc.functional.hierarchical.cells import cells, embedding
from fastloc.recipes import RECIPES, Recipe, recipe
from fastloc.reference import hierarchical as reference
from fastloc.reference import readouts
from hierarchical_towers import EMBED, Seeded, pixels, texts
from towers import error

CPU = torch.device("cpu")
GRID = (2, 3)
ARCH = layout.Arch((1, 1, 1, 2), (32, 32, 64, 64), 3, 1, (), layer_norm=False, stem_scales=True)
# rows of the last stage's two blocks
LOCAL = [
    *(recipe(name, blocks=2) for name in ("gem", "gem_calibrated", "gem_matched", "clip_surgery")),
    *map(recipe, ("naclip", "sclip", "pearl")),
]


@cache
def tower() -> HierarchicalWeights:
    take = Seeded()
    head = Head(Linear(take("fc", (EMBED, ARCH.channels)), take("fc.bias", (EMBED,))))
    spec = HierarchicalSpec("FastViT", "fastvit_mci0", ARCH, EMBED, (64, 64), "trunk")
    return HierarchicalWeights(spec, layout.trunk(ARCH, take), head)


def engine(method: Recipe, dtype: str = "float64") -> HierarchicalEngine:
    return HierarchicalEngine(HierarchicalTower(tower(), CPU, dtype), method, {"dtype": dtype})


@pytest.mark.parametrize("method", LOCAL, ids=lambda row: row.name)
def test_the_engine_runs_the_local_path(method: Recipe) -> None:
    x, words = pixels(2, GRID), texts(3)
    prepared = self_self.prepare(tower().trunk, method)
    local, own = self_self.finish(prepared, fastvit.tokens(prepared.trunk, x))
    out = forms.forward(tower(), x, method, cls=True)
    assert out.grid == GRID and out.cls is not None
    assert error(out.patches, cells(tower().head, local)) < 1e-10
    assert error(out.cls, embedding(tower().head, own)) < 1e-10 and error(out.cls, embedding(tower().head, local)) > 1e-3
    grids, scores = engine(method)(x, words, texts(1, 1)[0], background=True)
    assert scores is not None
    assert error(scores, F.normalize(out.cls, dim=-1) @ torch.cat([words, texts(1, 1)]).T) < 1e-10
    if method.readout.score == "cosine":
        assert error(grids.flatten(2), words @ F.normalize(out.patches, dim=-1).mT) < 1e-10
    single = engine(method, "float32")(x.float(), words.float(), texts(1, 1)[0].float())[0]
    assert error(single, engine(method)(x, words, texts(1, 1)[0])[0]) < 1e-3


@pytest.mark.parametrize("method", [*LOCAL, recipe("sclip", blocks=0)], ids=lambda row: f"{row.name} {row.blocks}")
def test_the_local_path_is_the_literal_reference_s(method: Recipe) -> None:
    x, words, empty = pixels(2, GRID), texts(3), texts(1, 1)[0]
    assert error(forms.forward(tower(), x, method).patches, reference.local_path(tower(), x, method)) < 1e-10
    for prompts in (words, words[:1]):
        expected = reference.any_scores(tower(), x, prompts, method, empty).transpose(1, 2)
        assert error(engine(method)(x, prompts, empty)[0].flatten(2), expected) < 1e-10


def test_scores_of_methods_that_read_cells_are_the_literal_reference_s() -> None:
    x, words = pixels(2, GRID), texts(3)
    for name in ("itsm", "grad_cam"):
        row = recipe(name).at_scale(tower().logit_scale)
        expected = reference.any_scores(tower(), x, words, row).transpose(1, 2)
        assert error(engine(row)(x, words, texts(1, 1)[0])[0].flatten(2), expected) < 1e-10
    assert error(reference.any_scores(tower(), x, words, recipe("itsm")), readouts.cosine(reference.itsm(tower(), x), words)) == 0


def test_the_mean_of_the_encoder_s_own_cells_is_the_embedding() -> None:
    out = forms.forward(tower(), pixels(2, GRID), recipe("itsm"), cls=True)
    assert out.cls is not None and error(out.patches.mean(1), out.cls) < 1e-10
    same = recipe("sclip", terms=("qk",))
    assert error(forms.forward(tower(), pixels(2, GRID), same).patches, out.patches) < 1e-10


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (recipe("gem"), "blocks of 'gem' on a FastViT must be at most the 2 of its last stage, got 6; give blocks=2"),
        (recipe("naclip", rotary=False), "rotary means nothing to 'naclip' on a FastViT"),
        (recipe("resclip"), "there are: itsm, rclip, gem, gem_calibrated, gem_matched, clip_surgery, maskclip, sclip,"),
        (recipe("legrad"), "'legrad' is one of plain transformers"),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_what_does_not_fit(method: Recipe, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        forms.check(method, tower().spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_row_is_run_or_refused(name: str) -> None:
    row = RECIPES[name] if RECIPES[name].blocks < 3 else recipe(name, blocks=2)
    if forms.form_of(row, tower().spec) is None:
        with pytest.raises(RecipeError, match=f"'{name}' is one of plain transformers"):
            forms.prepare(tower(), row)
    else:
        grids, _ = engine(row)(pixels(1, GRID), texts(2), texts(1, 1)[0])
        assert grids.shape == (1, 2, *GRID) and float(grids.abs().max()) > 0
