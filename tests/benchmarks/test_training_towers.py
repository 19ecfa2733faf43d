"""The towers that train.py can train: their losses, which patches they drop, and the text tower that they begin with."""

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("timm")

from embedded_model import distil, pack, pack_tower, towers, train
from embedded_model.emoji_scenes.sprites import FONT
from fastloc.checkpoints import loading
from fastloc.checkpoints.hierarchical.weights import HierarchicalWeights
from fastloc.functional import vit
from fastloc.functional.hierarchical import forms
from fastloc.recipes import recipe
from fastloc.text.templates import sentences

with_font = pytest.mark.skipif(not FONT.exists(), reason="drawing scenes needs Debian's fonts-noto-color-emoji")
PIXELS = torch.rand(3, 96, 96, 3).mul(255).to(torch.uint8)


def model(name: str, words: int = 50):
    torch.manual_seed(0)
    return towers.build(towers.TOWERS[name], words, 0.5)


def test_sigmoid_loss_is_the_papers_sum_over_pairs():
    logits, positive = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]]), torch.tensor([[True, False, False], [True, True, False]])
    signs = positive.float() * 2 - 1
    expected = sum(torch.log1p(torch.exp(-sign * logit)).item() for sign, logit in zip(signs.flatten(), logits.flatten(), strict=True)) / 2
    assert towers.sigmoid_loss(logits, positive).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", list(towers.TOWERS))
def test_a_tower_embeds_pictures_where_the_texts_are(name):
    row, made = towers.TOWERS[name], model(name)
    image = made.encode_image(train.normalise(PIXELS, row))
    text = made.encode_text(torch.randint(0, 50, (5, 24)))
    assert image.shape == (3, 192)
    assert text.shape == (5, 192)
    assert made.logit_scale.exp().item() == pytest.approx(row.scale)
    assert (made.logit_bias is None) == (row.bias is None)


@pytest.mark.parametrize("name", ["siglip", "pe"])
def test_dropped_patches_keep_the_places_of_the_others(name):
    made, pixels = model(name).visual, train.normalise(PIXELS, towers.TOWERS[name])
    towers.set_drop(made, 0.0)
    whole = made(pixels)
    trunk = made.trunk
    drop = trunk.patch_drop

    class Shuffle(torch.nn.Module):
        """Every patch kept, in another order, which a pool does not see where each goes on with its own position."""

        def forward(self, x):
            front = 1 if name == "pe" else 0
            order = torch.stack([torch.randperm(144) for _ in x])
            moved = torch.cat([x[:, :front], x[:, front:].gather(1, order[..., None].expand(-1, -1, x.shape[-1]))], 1)
            return (moved, order) if name == "pe" else moved

    trunk.patch_drop = Shuffle()
    assert torch.allclose(made(pixels), whole, atol=1e-5)
    trunk.patch_drop = drop
    towers.set_drop(made, 0.5)
    seen: list[int] = []
    trunk.blocks[0].register_forward_hook(lambda _module, _args, out: seen.append(out.shape[1]))
    made(pixels)
    assert seen == [72 + (name == "pe")]


def test_the_embedded_text_tower_is_the_one_that_ships():
    vocabulary = train.Vocabulary(24)
    made = model("siglip", len(vocabulary.ids))
    towers.embedded_text(made, vocabulary.ids)
    names = ["cat", "red car"]
    expected = loading.load("embedded").text(names, "gem")
    found = [made.encode_text(vocabulary([each.format(name) for each in sentences("gem")]), normalize=True).mean(0) for name in names]
    assert torch.allclose(torch.nn.functional.normalize(torch.stack(found), dim=-1), expected, atol=1e-4)
    with pytest.raises(ValueError, match="token_ids"):
        towers.embedded_text(made, vocabulary.ids + 1)


def test_scale_and_bias_learn_at_their_own_pace():
    groups = train.optimizer_of(model("siglip"), 1e-3, 5.0, 0.2).param_groups
    paces = {group["pace"]: sum(p.numel() for p in group["params"]) for group in groups}
    assert paces.keys() == {5.0, 1.0, 0.2}
    assert paces[5.0] == 2
    assert {group["weight_decay"] for group in groups if group["pace"] == 5.0} == {0.0}


@pytest.mark.parametrize("name", ["siglip", "pe"])
def test_a_packed_tower_is_the_trained_one(name: str, tmp_path: Path):
    vocabulary = train.Vocabulary(24)
    made = model(name, len(vocabulary.ids)).eval()
    with torch.no_grad():
        for weights in made.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    train.save(tmp_path / "checkpoint.pt", made, torch.optim.SGD(made.parameters()), train.Progress(), vocabulary)
    folder = pack_tower.pack(tmp_path, tmp_path / "packed")
    found = loading.load(str(folder))
    pixels = train.normalise(PIXELS, towers.TOWERS[name])
    row = recipe("itsm", position="bicubic")
    with torch.no_grad():
        expected, cls = made.encode_image(pixels), vit.forward(found.vit, pixels, row, cls=True).cls
    assert cls is not None
    assert (cls - expected).norm() < 1e-5 * expected.norm()
    assert torch.allclose(found.text(["cat"], "plain"), made.encode_text(vocabulary(["cat"]), normalize=True), atol=1e-5)
    assert (found.vit.spec.mean, found.vit.spec.std) == towers.HALF


def test_the_embedded_clip_is_packed_elsewhere(tmp_path: Path):
    vocabulary = train.Vocabulary(24)
    made = model("clip", len(vocabulary.ids))
    train.save(tmp_path / "checkpoint.pt", made, torch.optim.SGD(made.parameters()), train.Progress(), vocabulary)
    with pytest.raises(ValueError, match=r"pack\.py"):
        pack_tower.pack(tmp_path, tmp_path / "packed")


def test_the_tower_for_devices_is_packed_as_trained(tmp_path: Path):
    """Its embedding and its cells, of float16 weights, are those of timm's module; the text tower is the embedded one's."""
    vocabulary, row = train.Vocabulary(24), towers.TOWERS["device"]
    made = model("device", len(vocabulary.ids))
    towers.embedded_text(made, vocabulary.ids)
    train.freeze_text(made)
    assert {name for name, weights in made.named_parameters() if weights.requires_grad} == {
        f"visual.{name}" for name, _ in made.visual.named_parameters()
    }
    # means and variances that are not those of a start
    made.train().visual(train.normalise(PIXELS, row))
    made.eval()
    train.save(tmp_path / "checkpoint.pt", made, torch.optim.SGD(made.visual.parameters()), train.Progress(), vocabulary)
    assert pack.pack(tmp_path, tmp_path / "packed") < 2_000_000
    found = loading.load(str(tmp_path / "packed"))
    assert isinstance(found.weights, HierarchicalWeights)
    made.half().float()
    pixels = train.normalise(PIXELS, row)
    with torch.no_grad():
        out = forms.forward(found.weights, pixels, recipe("itsm"), cls=True)
        expected, cells = made.encode_image(pixels), distil.answered(made.visual.trunk, pixels)
    assert out.cls is not None and out.grid == (12, 12)
    assert (out.cls - expected).norm() < 1e-4 * expected.norm()
    assert (out.patches - cells).norm() < 1e-4 * cells.norm()
    assert torch.allclose(found.text(["cat"], "gem"), loading.load().text(["cat"], "gem"), atol=1e-6)
    assert found.recommended["recipes"]["gem"] == {"blocks": 2}


@with_font
@pytest.mark.slow("the teacher on a thousand scenes")
def test_distillation_learns_and_keeps_its_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distil, "CHUNK", 64)
    monkeypatch.setattr(distil, "FIRST", 2)
    made = model("device").train()
    distilled = distil.Distillation(made, towers.TOWERS["device"], tmp_path, size=96, seed=1, batch=16)
    assert len(distilled.pool) == 128
    given = distilled.pool.batch(np.random.default_rng(0), 16)
    # the teacher's own answers leave nothing to learn of cells; its mean has a loss of 1
    own = distilled.parts(given.cells, given)
    assert own["cells"] < 1e-6 and own["along texts"] < 1e-6
    every = torch.cat([each.cells for each in distilled.pool.chunks]).float()
    mean = every.mean((0, 1)).expand_as(every)
    assert float((every - mean).square().sum(-1).mean()) == pytest.approx(distilled.spread["cells"], rel=1e-4)
    # a mirrored picture has mirrored answers
    cells, _ = distilled.teacher(distilled.pool.chunks[0].pixels[:4].flip(2))
    mirrored = distilled.pool.chunks[0].cells[:4].unflatten(1, (12, 12)).flip(2).flatten(1, 2)
    assert torch.nn.functional.cosine_similarity(cells.float(), mirrored.float(), dim=-1).mean() > 0.9
    optimizer = torch.optim.AdamW(made.visual.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        loss = distilled(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0] and "scenes 128" in distilled.words
    again = distil.Pool(tmp_path, distilled.teacher, 96, 1)
    assert torch.equal(again.chunks[1].pixels, distilled.pool.chunks[1].pixels)
    distilled(len(distilled.pool) * distil.REPEATS + 1)
    assert len(distilled.pool) == 192
