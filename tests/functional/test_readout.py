"""Read-outs by hand: cosines, the image's scores, and feature surgery's texts."""

import pytest
import torch

from fastloc.errors import TextError
from fastloc.functional import readout
from fastloc.functional.output import Output
from fastloc.recipes import ReadOut

TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
# a picture of 1 x 3 patches, one of them nothing
PATCHES = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]]], dtype=torch.float64)
CLS = torch.tensor([[0.0, 5.0]], dtype=torch.float64)
SURGERY = ReadOut(score="feature-surgery", order="grid")


def out(cls: torch.Tensor | None = CLS) -> Output:
    return Output(PATCHES, cls, (1, 3), {})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_cosines(dtype: torch.dtype) -> None:
    found = readout.similarity(Output(PATCHES.to(dtype), None, (1, 3), {}), TEXTS, ReadOut())
    expected = torch.tensor([[0.6, 0.0, -1.0], [0.8, 0.0, 0.0], [1.0, 0.0, -0.6]], dtype=torch.float64)[None, :, None]
    assert found.shape == (1, 3, 1, 3) and found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6 if dtype == torch.float16 else 1e-12)


def test_the_image_s_scores() -> None:
    found = readout.scores(out(), TEXTS)
    assert found is not None and readout.scores(out(None), TEXTS) is None
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0, 0.8]], dtype=torch.float64))


@pytest.mark.parametrize(("score", "texts", "needs"), [
    ("cosine", 1, False), ("cosine", 5, False), ("feature-surgery", 1, False), ("feature-surgery", 2, True), ("relevance", 1, True),
    ("relevance", 3, True),
])  # fmt: skip
def test_which_read_outs_need_the_image(score: str, texts: int, needs: bool) -> None:
    assert readout.needs_cls(ReadOut(score=score, order="grid"), texts) is needs


def test_feature_surgery_by_hand() -> None:
    """w = softmax(2 cos), divided by its mean; each text's w t less the mean over the texts."""
    weight = torch.softmax(2 * torch.tensor([0.0, 1.0, 0.8], dtype=torch.float64), 0)
    weight = weight / weight.mean()
    weighted = weight[:, None] * TEXTS
    expected = weighted - weighted.mean(0)
    torch.testing.assert_close(readout.surgery_texts(CLS / 5, TEXTS), expected[None])
    found = readout.similarity(out(), TEXTS, SURGERY)
    units = torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found[0, :, 0], expected @ units.T)


def test_one_text_less_the_empty_one() -> None:
    empty = TEXTS[1]
    found = readout.similarity(out(None), TEXTS[:1], SURGERY, empty)
    torch.testing.assert_close(found[0, 0, 0], torch.tensor([0.6 - 0.8, 0.0, -1.0], dtype=torch.float64))
    with pytest.raises(TextError, match="the embedding of the empty string must be given"):
        readout.similarity(out(), TEXTS[:1], SURGERY)
    with pytest.raises(TextError, match="the image embedding must be given for feature surgery with several texts"):
        readout.similarity(out(None), TEXTS, SURGERY)


def test_the_pictures_of_a_batch_keep_their_own_scores() -> None:
    """Two image embeddings of different lengths, which only the length of each one itself makes unit."""
    both = torch.tensor([[3.0, 4.0], [0.0, -2.0]], dtype=torch.float64)
    units = torch.tensor([[0.6, 0.8], [0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(readout.image_scores(both, TEXTS), torch.stack([TEXTS @ each for each in units]))
    made = readout.surgery_texts(units, TEXTS)
    torch.testing.assert_close(made, torch.cat([readout.surgery_texts(each[None], TEXTS) for each in units]))
    found = readout.similarity(Output(PATCHES.expand(2, -1, -1), both, (1, 3), {}), TEXTS, SURGERY)
    torch.testing.assert_close(found[:, :, 0, 0], torch.stack([each @ units[0] for each in made]))
