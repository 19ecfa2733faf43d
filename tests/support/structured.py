"""Structured inputs that Hypothesis draws: recipes, manifests and results, valid ones and others."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging.geometry import FITS, fit
from fastloc.imaging.heatmaps import ORDERS
from fastloc.onnx_file import formats
from fastloc.onnx_file.manifest import Input, Manifest, Model, Texts
from fastloc.recipes import RECIPES, Recipe, recipe, schema
from fastloc.recipes.readout import SCORES
from fastloc.results.result import Result

__all__ = ["CHANGES", "JSON", "NAMES", "SIDES", "TEXT", "manifests", "recipes", "results", "some"]

TEXT = st.text(max_size=12)
# what is written in UTF-8
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
NUMBERS = st.one_of(st.integers(-3, 40), st.floats(width=32), st.sampled_from([0, 1, 0.5, 1e308, -0.0, 2**70]))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8,
)  # fmt: skip
SIDES = st.integers(1, 60)
SIMILARITY = st.floats(-1, 1, width=32)


def some(*known: str) -> st.SearchStrategy[str]:
    return st.sampled_from([*known, "", "gme"])


@st.composite
def tables(draw: st.DrawFn) -> Any:
    """A table of inverse temperatures, whose axes may not fit."""
    blocks, heads, streams, passes = (draw(st.integers(1, 3)) for _ in range(4))
    value = draw(NUMBERS)
    return [[[[value] * passes] * streams] * heads] * blocks


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "blocks": st.integers(-1, 30), "path": some(*schema.PATHS), "path_blocks": st.lists(st.integers(-1, 12), max_size=5),
    "terms": st.lists(some(*schema.TERMS), max_size=4), "combine": some("mean", "sum"), "unit": st.booleans(),
    "iterations": st.integers(-1, 3), "inv_temp": st.none() | NUMBERS | some("adaptive", "matched") | tables(), "rho": st.none() | NUMBERS,
    "bias_std": st.none() | NUMBERS, "procrustes_weight": NUMBERS, "cross": st.none() | st.tuples(NUMBERS, NUMBERS),
    "cross_blocks": st.lists(NUMBERS, max_size=3), "cross_terms": some("qk", "own"), "cross_weight": NUMBERS, "gain": NUMBERS,
    "residual": st.booleans(), "mlp": st.booleans(), "position": some(*schema.POSITION_MODES), "keep_position": st.booleans(),
    "rotary": st.booleans(), "registers": st.integers(-1, 3), "patch_read": st.none() | some(*schema.PATCH_READS),
    "neurons": st.lists(st.tuples(st.integers(-1, 5), st.lists(st.integers(-1, 5), max_size=3)), max_size=3),
    "reads": some("patches", *schema.RELEVANCES), "start": st.integers(-13, 13), "target": some(*schema.TARGETS),
    "target_scale": NUMBERS | some("model"), "one_head": st.booleans(), "compares": some(*schema.COMPARES), "cam": some(*schema.CAMS),
    "head": st.none() | st.integers(-1, 20), "cutoff": NUMBERS, "trained": st.booleans(), "fit": some(*FITS), "template": NAMES,
    "score": some(*SCORES), "order": some(*ORDERS), "logit_scale": NUMBERS | some("model"), "reverse": st.booleans(),
}  # fmt: skip
# each field alone first, as most of them contradict others
CHANGES = st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """A valid recipe: the row itself where the changes cannot be."""
    name = draw(st.sampled_from(sorted(RECIPES)))
    try:
        return recipe(name, **draw(CHANGES))
    except FastlocError:
        return RECIPES[name]


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    patch = draw(st.integers(1, 16))
    mean, std = ((draw(st.floats(0.01, 1)),) * 3 for _ in range(2))
    names = tuple(draw(st.lists(NAMES.filter(bool), max_size=3)))
    model = Model(draw(NAMES), "a", "b", (patch, patch), draw(st.integers(1, 64)), mean, std, "bicubic", draw(NAMES))
    size = draw(st.none() | st.tuples(SIDES, SIDES))
    given_input = Input(
        draw(st.sampled_from(("pixels", "bytes"))), draw(st.sampled_from(("NCHW", "NHWC"))), draw(st.booleans()), size, None,
        draw(st.sampled_from(sorted(FITS))), draw(st.none() | SIDES), draw(SIDES | st.tuples(SIDES, SIDES)),
    )  # fmt: skip
    texts = Texts(len(names) if names else draw(st.none() | SIDES), names, draw(NAMES))
    outputs = tuple(draw(st.lists(st.sampled_from(sorted(formats.OUTPUTS)), min_size=1, unique=True)))
    how = draw(st.sampled_from(sorted(formats.DTYPES))), draw(st.sampled_from(sorted(formats.SPELLINGS))), draw(st.integers(1, 30))
    return Manifest("1.0", model, draw(recipes()), given_input, texts, outputs, *how)


@st.composite
def results(draw: st.DrawFn) -> Result:
    """A result of random similarities on a small picture, with and without scores and limits."""
    picture, count = (draw(SIDES), draw(SIDES)), draw(st.integers(1, 3))
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    geometry = fit(picture, (8 * rows, 8 * columns), 8, draw(st.sampled_from(("stretch", "letterbox"))))
    values = draw(st.lists(SIMILARITY, min_size=count * rows * columns, max_size=count * rows * columns))
    shares = st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count)
    scores, order = draw(st.none() | shares), draw(st.sampled_from(sorted(ORDERS)))
    ranges = st.tuples(st.floats(-1, 0, width=32), st.floats(0.25, 1, width=32))
    limits = draw(st.none() | ranges) if order in ("grid", "picture") else None
    return Result(
        picture=Image.new("RGB", picture[::-1]), texts=tuple(draw(NAMES.filter(str.strip)) for _ in range(count)),
        similarity=np.array(values, np.float32).reshape(count, rows, columns), geometry=geometry, order=order,
        logit_scale=draw(st.floats(1, 100)) if order.startswith("softmax") else None, reverse=order == "grid" and draw(st.booleans()),
        method="gem", model=draw(NAMES), scores=None if scores is None else np.array(scores, np.float32),
        limits=None if limits is None else np.array([limits] * count, np.float32),
    )  # fmt: skip
