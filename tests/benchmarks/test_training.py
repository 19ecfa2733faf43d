"""The embedded model's training: what captions assert, which pictures they are true of, and a run that is taken up again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedded_model import towers, train
from embedded_model.emoji_scenes.captions import Caption, full_caption, partial_caption
from embedded_model.emoji_scenes.compose import Scene, compose
from embedded_model.emoji_scenes.concepts import Concept, concepts, names
from embedded_model.emoji_scenes.sprites import FONT
from quality import quality_set

with_font = pytest.mark.skipif(not FONT.exists(), reason="drawing scenes needs Debian's fonts-noto-color-emoji")


def scene(*things: str) -> Scene:
    """A scene of named things without its drawing."""
    by_name = {concept.name: concept for concept in concepts()}
    return Scene(Image.new("RGB", (8, 8)), tuple(by_name[name] for name in things), ())


def test_there_are_enough_concepts_and_their_words_are_true_of_them():
    rows = {row.name: row for row in concepts()}
    assert len(rows) == len(concepts()) >= 250
    assert rows["cat"].truths == {"cat", "animal"}
    assert rows["eagle"].truths == {"eagle", "bird", "animal"}
    assert rows["red car"].truths == {"red car", "car", "vehicle"}
    assert rows["blue heart"].truths == {"blue heart", "heart"}
    assert {"animal", "fruit", "vehicle", "food"} <= set(names())


def test_captions_assert_only_what_is_in_the_scene():
    rng, pictured = np.random.default_rng(0), scene("cat", "red car", "pizza")
    for _ in range(200):
        full, part = full_caption(rng, pictured), partial_caption(rng, pictured, ("a photo of a {}.",))
        assert full.names == {"cat", "red car", "pizza"}
        assert part.names <= pictured.truths
        assert 1 <= len(part.names) <= 2
        assert all(name in full.text for name in full.names)
        assert all(name in part.text for name in part.names)


def test_a_caption_matches_every_picture_it_is_true_of():
    truths = [scene("cat", "red car").truths, scene("cat").truths, scene("dog", "blue car").truths]
    captions = [Caption("", frozenset(words)) for words in (["cat", "red car"], ["cat"], ["animal"], ["car"], ["dog", "cat"])]
    expected = [[True, True, True, True, False], [False, True, True, False, False], [False, False, True, True, False]]
    assert train.matches(captions, truths).tolist() == expected


def test_the_loss_is_least_where_logits_follow_the_matches():
    positive = torch.tensor([[True, False, True], [False, True, True]])
    right, wrong = 20.0 * positive, 20.0 * ~positive
    flat = torch.zeros(2, 3)
    losses = [towers.contrastive_loss(logits.float(), positive).item() for logits in (right, flat, wrong)]
    assert losses == sorted(losses)
    # spread evenly over two positives of a row or column is the best there is
    assert losses[0] == pytest.approx(np.log(2) / 2 * (1 + 1 / 3), abs=0.01)


def test_the_quality_set_is_whole():
    scenes = quality_set()
    assert len(scenes) >= 200
    known = {concept.name for concept in concepts()}
    for each in scenes:
        assert set(each.things) <= known
        assert each.masks.shape == (len(each.things), each.picture.height, each.picture.width)
        assert each.masks.any(axis=(1, 2)).all()
        # every pixel is of one thing at most
        assert each.masks.sum(0).max() <= 1
    assert {each.picture.size for each in scenes} == {(160, 160), (208, 160), (160, 208)}


@with_font
def test_a_seed_is_a_scene_and_masks_are_exact():
    vocabulary = concepts()
    first, second = (compose(np.random.default_rng(5), vocabulary, (64, 80)) for _ in range(2))
    assert np.array_equal(np.asarray(first.picture), np.asarray(second.picture))
    assert first.picture.size == (80, 64)
    assert len(first.masks) == len(first.things)
    # a thing is seen where the picture differs from what it is without it
    only = [Concept("square", ("🟥",), None, frozenset())]
    drawn = compose(np.random.default_rng(6), only, (64, 64), only)
    red = np.asarray(drawn.picture).astype(int)
    inside, outside = red[drawn.masks[0]].mean(0), red[~drawn.masks[0]].mean(0)
    assert inside[0] - inside[1:].max() > 80
    assert abs(inside - outside).max() > 40


@pytest.mark.slow("trains twice")
@with_font
def test_training_runs_and_is_taken_up_again(tmp_path: Path):
    script = Path(train.__file__)

    def run(steps: int) -> str:
        command = [sys.executable, str(script), "--out", str(tmp_path), "--steps", str(steps), "--batch", "4", "--workers", "1"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout

    assert "resuming" not in run(2)
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert first["progress"]["step"] == 2
    assert "resuming at step 2" in run(3)
    second = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert second["progress"]["step"] == 3
    assert not torch.equal(first["model"]["visual.proj"], second["model"]["visual.proj"])
    assert '"steps": 3' in (tmp_path / "record.json").read_text()
