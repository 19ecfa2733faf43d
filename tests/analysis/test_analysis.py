"""Readings of the encoder's inside against the reference's parts, and the scores against cases worked out by hand."""

import csv
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import families
import towers
from fastloc.analysis import blocks, metrics
from fastloc.cli import main
from fastloc.imaging.geometry import FITS, fit
from fastloc.reference import arithmetic, first_tokens, parts, readouts
from towers import error, pixels, texts, tower

KINDS = {
    "plain": {}, "scaled": {"scale": True}, "mean-pooled": {"pool": "avg"}, "mean-normed": {"pool": "avg-norm"},
    "no ln_pre": {"ln_pre": False},
}


def steps(weights, images):
    """(input, qkv, what attention adds, what the MLP adds) of every block, by the reference's equations."""
    grid = first_tokens.grid_of(weights, images)
    x, turns = first_tokens.embed(weights, images, "bilinear"), first_tokens.angles(weights, grid)
    for block in weights.blocks:
        q, k, v = parts.qkv(block, parts.entered(block, x, weights.spec), weights.spec, turns)
        attention = parts.out(block, arithmetic.attend(q, k, v, first_tokens.relative_bias(block, weights.spec, grid)), weights.spec)
        ffn = parts.mlp(block, x + attention, weights.spec)
        yield x, (q, k, v), attention, ffn
        x = x + attention + ffn


# another pool, rotations, norms behind, several tokens in front
FAMILIES = ("siglip", "pe", "coca", "eva02-e", "registers", "relpos")


def made(kind):
    """The weights of a kind or family, and three texts as wide as its embedding."""
    weights = families.tower(kind) if kind in FAMILIES else tower(**KINDS[kind])
    wide = torch.cat([texts(3), texts(3, seed=1)], 1)[:, : weights.spec.embed]
    return weights, torch.nn.functional.normalize(wide, dim=-1)


@pytest.mark.parametrize("kind", [*KINDS, *FAMILIES])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_module_cosines(kind, grid):
    (weights, names), images = made(kind), pixels(2, grid)
    contribution, accumulated = blocks.module_cosines(weights, images, names)
    expected = []
    for x, _, attention, ffn in steps(weights, images):
        for added, stream in ((attention, x + attention), (ffn, x + attention + ffn)):
            expected.append([arithmetic.unit(parts.pooled(weights, each)) @ names.T for each in (added, stream)])
    shape = (2, towers.LAYERS, 2, 3)
    assert contribution.shape == accumulated.shape == shape
    assert error(contribution, torch.stack([each[0] for each in expected], 1).reshape(shape)) < 1e-10
    assert error(accumulated, torch.stack([each[1] for each in expected], 1).reshape(shape)) < 1e-10
    # what has come together at the end is the image embedding
    embedding, _ = parts.encoder(weights, images, "bilinear")
    assert error(accumulated[:, -1, -1], arithmetic.unit(embedding) @ names.T) < 1e-10


ATTENDED = ("plain", "siglip", "pe", "registers", "relpos")


@pytest.mark.parametrize(("kind", "grid"), [("plain", (4, 4)), *((kind, (3, 5)) for kind in ATTENDED)])
def test_attention_rows_and_anchors(kind, grid):
    (weights, names), images = made(kind), pixels(2, grid)
    _, patches = parts.encoder(weights, images, "bilinear")
    front = weights.spec.prefix
    anchors = blocks.anchors(weights, images, names)
    assert torch.equal(anchors, readouts.cosine(patches, names).argmax(1))
    rows = blocks.attention_rows(weights, images, anchors)
    assert rows.shape == (2, towers.LAYERS, 4, 3, towers.HEADS, grid[0] * grid[1])
    for index, (_, streams, _, _) in enumerate(steps(weights, images)):
        q, k, v = streams
        bias = first_tokens.relative_bias(weights.blocks[index], weights.spec, grid)
        for term, (left, right) in enumerate(((q, k), (q, q), (k, k), (v, v))):
            whole = arithmetic.softmax(arithmetic.logits(left, right) + (bias if term == 0 else 0.0))
            for image in range(2):
                expected = whole[image][:, front + anchors[image], front:].transpose(0, 1)
                assert error(rows[image, index, term], expected) < 1e-10, (index, blocks.ATTENTIONS[term])


def test_coverage_by_hand():
    # 4 x 6 pixels on 2 x 3 patches: 2 x 2 pixels each
    mask = np.zeros((4, 6), bool)
    mask[:2, :3] = True
    np.testing.assert_array_equal(metrics.coverage(mask, fit((4, 6), (32, 48), 16), (2, 3)), [[1, 0.5, 0], [0, 0, 0]])
    # a letterbox's first and last rows hold nothing
    wide = metrics.coverage(np.ones((4, 8), bool), fit((4, 8), 64, 16, "letterbox"), (4, 4))
    np.testing.assert_array_equal(wide, [[np.nan] * 4, [1] * 4, [1] * 4, [np.nan] * 4])
    # a crop leaves the sides out
    assert metrics.coverage(np.eye(4, 8, dtype=bool), fit((4, 8), 64, 16, "crop"), (4, 4)).sum() == 2


@pytest.mark.parametrize("name", FITS)
def test_coverage_keeps_the_area(name):
    geometry = fit((90, 150), 64, 8, name)
    mask = np.random.default_rng(0).random((90, 150)) < 0.3
    covered = metrics.coverage(mask, geometry, geometry.grid(8))
    rows, columns = geometry.covered()
    assert np.nanmean(covered) == pytest.approx(mask[rows, columns].mean(), abs=0.01)


def test_lift_and_auc_by_hand():
    covered = np.array([[1, 0.5, 0, np.nan]])
    # even: 1 and a half; all on the object; all beside it; a NaN patch's attention is not counted
    rows = np.array([[[1, 1, 1, 1]], [[1, 0, 0, 7]], [[0, 0, 1, 7]]], float)
    np.testing.assert_allclose(metrics.lift(rows, covered), [1, 2, 0])
    # on: 1 and 1/2, beside: 1/2 and 1. For the second row: 2/3 of the object beats everything, the rest ties with everything
    np.testing.assert_allclose(metrics.auc(rows, covered), [0.5, 2 / 3 + 1 / 6, 1 / 3 * 1 / 3 * 0.5 + 2 / 3 * 1 / 3 * 0.5])
    assert np.isnan(metrics.auc(rows, np.ones((1, 4)))).all()


def test_auc_is_the_chance_of_a_pair():
    random = np.random.default_rng(0)
    values, inside = random.integers(0, 6, (5, 7)).astype(float), random.random((5, 7)) < 0.4
    pairs = values[inside][:, None] - values[~inside]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert float(metrics.auc(values, inside.astype(float))) == pytest.approx(expected)


def test_contrast_is_negative_where_the_map_is_inside_out():
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    grid = np.zeros((8, 8))
    grid[2:6, 2:6] = 1
    geometry = fit((64, 64), 64, 8)
    inside, outside = metrics.contrast(grid, geometry, mask)
    assert inside > 0.85 and outside < 0.05
    assert metrics.contrast(-grid, geometry, mask) == pytest.approx((1 - inside, 1 - outside))
    assert metrics.contrast(-grid, geometry, mask, reverse=True) == pytest.approx((inside, outside))
    assert np.isnan(metrics.contrast(grid, geometry, np.ones((64, 64), bool))).all()


def test_central():
    covered = np.zeros((6, 6))
    covered[1:4, 2:5] = 1
    covered[0, 0] = np.nan
    assert metrics.central(covered) == 2 * 6 + 3


# the command


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow("every block of the model on every sample")
def test_the_samples(tmp_path, capsys):
    """On the model that ships with fastloc: its raw map is inside out, and v-v attention stays on the object where q-k does not."""
    assert main(["analyze", "--methods", "itsm", "gem", "--size", "224", "-o", str(tmp_path / "a")]) == 0
    # however wide the terminal is
    assert "inside out" in " ".join(capsys.readouterr().out.split())
    names = ("methods", "attention", "modules")
    assert {each.name for each in (tmp_path / "a").iterdir()} == {f"{name}.{kind}" for name in names for kind in ("csv", "png")}
    methods, attention, modules = (read(tmp_path / "a" / f"{name}.csv") for name in names)

    def mean(rows, key, **where):
        return np.mean([float(row[key]) for row in rows if all(row[name] == value for name, value in where.items())])

    assert mean(methods, "score", method="itsm") < 0 < 0.2 < mean(methods, "score", method="gem")
    assert len(methods) == 2 * 11
    for row in methods:
        assert float(row["score"]) == pytest.approx(float(row["inside"]) - float(row["outside"]), abs=1e-5)
    at = {"anchor": "object", "block": "6"}
    for key in ("lift", "auc"):
        assert mean(attention, key, attention="vv", **at) > mean(attention, key, attention="qk", **at)
    last = {"mode": "accumulated", "module": "ffn", "block": "6"}
    assert mean(modules, "cosine", kind="positive", **last) > mean(modules, "cosine", kind="negative", **last) + 0.1
    for name in names:
        with Image.open(tmp_path / "a" / f"{name}.png") as plot:
            assert plot.width == 1600


def test_pictures_of_ones_own(tmp_path, capsys, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        Image.fromarray(random.integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / f"{name}.png")
        mask = np.zeros((40, 60), np.uint8)
        mask[:20, :30], mask[20:, 30:] = 1, 2
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    files = [str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    arguments = [*files, "-t", "cat", "dog", "--negatives", "bus", "--size", "64"]
    # without masks only the modules; without matplotlib no plots
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["analyze", *arguments, "-o", str(tmp_path / "plain")]) == 0
    assert [each.name for each in (tmp_path / "plain").iterdir()] == ["modules.csv"]
    output = capsys.readouterr().err
    assert "without --masks" in output and "without matplotlib" in output
    rows = read(tmp_path / "plain" / "modules.csv")
    assert len(rows) == 2 * 3 * 6 * 2 * 2 and {row["kind"] for row in rows if row["text"] == "bus"} == {"negative"}
    assert main(["analyze", *arguments, "--masks", str(tmp_path / "masks"), "--methods", "rclip", "-o", str(tmp_path / "whole")]) == 0
    assert {row["text"] for row in read(tmp_path / "whole" / "attention.csv")} == {"cat", "dog"}
    assert len(read(tmp_path / "whole" / "methods.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one.png"], "-t must name what is in your pictures, got none"),
        (["-t", "cat"], "of your own"),
        (["none.png", "-t", "cat"], "no such file"),
        (["one.png", "-t", "cat", "--masks", "nowhere"], "--masks must be a folder"),
        (["one.png", "-t", "cat", "--masks", "small"], "40 x 60"),
        (["one.png", "-t", "cat", "--masks", "many"], "must hold values up to"),
        (["--methods", "gme"], "unknown method 'gme': did you mean 'gem'"),
        (["-o", "one.png"], "--output must be a folder"),
        (["-o", "no/where"], "does not exist"),
        (["--model", "x.onnx"], "exported"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40)).save("one.png")
    for folder, size, value in (("small", (6, 4), 0), ("many", (60, 40), 2)):
        (tmp_path / folder).mkdir()
        Image.new("L", size, value).save(tmp_path / folder / "one.png")
    before = sorted(tmp_path.rglob("*"))
    assert main(["analyze", *arguments, *([] if "-o" in arguments else ["-o", "out"])]) == 1
    found = capsys.readouterr().err.strip().splitlines()
    assert len(found) == 1 and message in found[0], found
    assert sorted(tmp_path.rglob("*")) == before
