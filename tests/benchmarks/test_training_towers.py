"""The towers that train.py can train: their losses, which patches they drop, and the text tower that they begin with."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("timm")

from embedded_model import pack_tower, towers, train
from fastloc.checkpoints import loading
from fastloc.functional import vit
from fastloc.recipes import recipe
from fastloc.text.templates import sentences

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
