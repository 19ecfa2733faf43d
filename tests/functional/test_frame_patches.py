"""Frames become the same patches as pictures do: Pillow's bytes, and with the folded embedding the same tokens."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import fastloc.functional.frames.patches as frames_module
import towers
from fastloc.checkpoints.vit_spec import OPENAI_MEAN, OPENAI_STD
from fastloc.engine.frame_patches import patches_of
from fastloc.errors import FastlocError
from fastloc.functional.frames.patches import folded_embedding, frame_tables
from fastloc.imaging.geometry import FITS, Geometry, fit
from fastloc.imaging.preprocess import INTERPOLATIONS, prepare

# frames (H, W): wide, high, small, tiny, of the input's own size, one pixel wide
FRAMES = ((45, 61), (97, 40), (20, 33), (3, 2), (32, 32), (30, 1))
SIZE, PATCH = 32, (8, 8)
# the patches' own rounding is none, so what is left is that of a matrix product of 192 terms, twice
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def noise(batch: int, frame: tuple[int, int]) -> Tensor:
    """uint8 [batch, *frame, 3]; the lower half black and white, so that filters overshoot."""
    drawn = np.random.default_rng(sum(frame)).integers(0, 256, (batch, *frame, 3), np.uint8)
    drawn[:, frame[0] // 2 :] = np.where(drawn[:, frame[0] // 2 :] < 128, 0, 255)
    return torch.from_numpy(drawn)


def geometries() -> list[Geometry]:
    # "aspect" and "crop" take no frame this long
    return [fit(frame, SIZE, PATCH, way) for frame, way in itertools.product(FRAMES, FITS)]


def cut(pixels: Tensor, patch: tuple[int, int]) -> Tensor:
    """[B, 3, H, W] -> [B, P, 3 * ph * pw], the order in which conv2d reads them."""
    return F.unfold(pixels, patch, stride=patch).transpose(1, 2)


def pillow_pixels(frames: Tensor, geometry: Geometry, interpolation: str) -> Tensor:
    """float64 [B, 3, h, w] in 0 .. 255 by Pillow alone; the mean colour where the input is padded."""
    (h, w), (top, left) = geometry.input, geometry.corner
    pixels = 255 * torch.tensor(OPENAI_MEAN, dtype=torch.float64).view(1, 3, 1, 1).repeat(len(frames), 1, h, w)
    for image, frame in zip(pixels, frames, strict=True):
        resized = np.asarray(Image.fromarray(frame.numpy()).resize(geometry.resized[::-1], INTERPOLATIONS[interpolation]), np.float64)
        part = torch.from_numpy(resized[max(top, 0) : top + h, max(left, 0) : left + w]).permute(2, 0, 1)
        image[:, max(-top, 0) :, max(-left, 0) :][:, : part.shape[1], : part.shape[2]] = part
    return pixels


def label(geometry: Geometry) -> str:
    return f"{geometry.fit}-{geometry.picture[0]}x{geometry.picture[1]}"


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("geometry", geometries(), ids=label)
def test_patches_are_pillows_bytes(geometry: Geometry, interpolation: str) -> None:
    frames = noise(2, geometry.picture)
    expected = cut((pillow_pixels(frames, geometry, interpolation) - 128) / 64, PATCH)
    for dtype in CLOSE:
        found = patches_of(frames, geometry, PATCH, OPENAI_MEAN, interpolation, dtype)
        assert found.dtype == dtype and found.shape == expected.shape
        rounded = expected if dtype == torch.float64 else expected.float().to(dtype)
        wrong = int((found != rounded).sum())
        assert wrong == 0, f"{dtype}: {wrong} of {found.numel()} values differ"


@pytest.mark.parametrize("bgr", [False, True], ids=["rgb", "bgr"])
@pytest.mark.parametrize("geometry", geometries(), ids=label)
def test_the_folded_embedding_is_preprocessing_and_convolution(geometry: Geometry, bgr: bool) -> None:
    frames, weights = noise(2, geometry.picture), towers.tower()
    mean, std = (torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in (OPENAI_MEAN, OPENAI_STD))
    exact = (pillow_pixels(frames, geometry, "bicubic") / 255 - mean) / std
    expected = F.conv2d(exact, weights.patch_w, stride=PATCH).flatten(2).transpose(1, 2)
    prepared = np.stack([prepare(Image.fromarray(frame.numpy()), geometry, OPENAI_MEAN, OPENAI_STD) for frame in frames])
    usual = F.conv2d(torch.from_numpy(prepared), weights.patch_w.float(), stride=PATCH).flatten(2).transpose(1, 2)
    for dtype, tolerance in CLOSE.items():
        matrix, bias = (each.to(dtype) for each in folded_embedding(weights.to(dtype=dtype)))
        source = frames.flip(3) if bgr else frames
        found = F.linear(patches_of(source, geometry, PATCH, OPENAI_MEAN, "bicubic", dtype, bgr=bgr), matrix, bias)
        assert towers.error(found, expected) < tolerance, dtype
        assert towers.error(found, usual) < max(tolerance, CLOSE[torch.float32]), dtype


def test_the_folded_embedding_is_at_least_float32() -> None:
    for dtype, expected in {torch.float16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}.items():
        matrix, bias = folded_embedding(towers.tower().to(dtype=dtype))
        assert matrix.dtype == bias.dtype == expected
        assert matrix.shape == (32, 3 * 8 * 8) and bias.shape == (32,)


def test_batches_and_memory_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, frames = fit((45, 61), SIZE, PATCH), noise(5, (45, 61))

    def patches(source: Tensor) -> Tensor:
        return patches_of(source, geometry, PATCH, OPENAI_MEAN, "bicubic", torch.float32)

    expected = patches(frames)
    assert patches(frames[:0]).shape == (0, 16, 192)
    assert torch.equal(patches(frames.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)), expected)
    assert torch.equal(patches(frames[::2]), expected[::2])
    # one frame at a time, and two
    for sums in (1, 3 * 2 * 45 * 32):
        monkeypatch.setattr(frames_module, "_SUMS", sums)
        assert torch.equal(patches(frames), expected)


def test_a_patch_need_not_be_square() -> None:
    geometry = fit((29, 61), (24, 40), (8, 4))
    frames = noise(1, (29, 61))
    expected = cut((pillow_pixels(frames, geometry, "bilinear") - 128) / 64, (8, 4))
    assert torch.equal(patches_of(frames, geometry, (8, 4), OPENAI_MEAN, "bilinear", torch.float64), expected)


def test_tables_are_made_and_moved_once() -> None:
    geometry = fit((45, 61), SIZE, PATCH)
    tables = frame_tables(geometry, PATCH, list(OPENAI_MEAN))
    assert frame_tables(fit((45, 61), SIZE, PATCH), PATCH, OPENAI_MEAN, "bicubic") is tables
    assert tables.to(torch.device("cpu")) is tables
    there = tables.to(torch.device("meta"))
    assert there.rows.start.is_meta and there.columns.weights.is_meta and there.padding == tables.padding
    assert tables.to(torch.device("meta")) is there
    assert tables.grid == (4, 4)


@pytest.mark.parametrize("geometry", [fit((45, 61), SIZE, PATCH, "letterbox"), fit((9, 4), 16, PATCH, "crop")], ids=label)
def test_the_kernel_gives_the_same_bits(geometry: Geometry) -> None:
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames = noise(1, geometry.picture).to(device)
    found, expected = (
        patches_of(frames, geometry, PATCH, OPENAI_MEAN, "bicubic", torch.float16, bgr=True, fused=fused) for fused in (True, False)
    )
    assert torch.equal(found, expected)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry, frames = fit((45, 61), SIZE, PATCH), noise(1, (45, 61))

    def refused(source: Tensor, match: str, *, fused: bool = False, mean: tuple[float, ...] = OPENAI_MEAN, interpolation: str = "bicubic",
                patch: tuple[int, int] = PATCH, dtype: torch.dtype = torch.float32) -> None:  # fmt: skip
        with pytest.raises(FastlocError, match=match):
            patches_of(source, geometry, patch, mean, interpolation, dtype, fused=fused)

    for fused in (False, True):
        refused(frames[0], r"frames must be \[B, 45, 61, 3\], .* got \[45, 61, 3\]", fused=fused)
        refused(frames[:, :-1], r"must be \[B, 45, 61, 3\], .* got \[1, 44, 61, 3\]", fused=fused)
        refused(frames.float(), "frames must be uint8, got float32", fused=fused)
    refused(frames, r"mean must be three finite numbers, one a channel, got \(0.5, 0.5\)", mean=(0.5, 0.5))
    refused(frames, "mean must be three finite numbers", mean=(0.5, 0.5, float("nan")))
    refused(frames, "unknown interpolation 'cubic'", interpolation="cubic")
    refused(frames, "patch 7 x 7 does not divide", patch=(7, 7))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    refused(frames, "triton is not installed|the device is a CPU", fused=True)


def test_the_kernel_says_what_it_cannot_do() -> None:
    pytest.importorskip("triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    frames = noise(1, (45, 61)).to(device)
    with pytest.raises(FastlocError, match="dtype must be float16, bfloat16 or float32, got float64"):
        patches_of(frames, fit((45, 61), SIZE, PATCH), PATCH, OPENAI_MEAN, "bicubic", torch.float64, fused=True)
