"""Heatmaps of a result in the dtype, size and part that you ask for; and the sheet, which makes heat at the size of its tiles."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.imaging import overlay
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result


def result(order: str = "picture", size: tuple[int, int] = (60, 90), how: str = "crop", **fields: Any) -> Result:
    geometry = fit(size, 32, 8, how)
    similarity = np.random.default_rng(0).normal(size=(2, *geometry.grid(8))).astype(np.float32)
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    made = {"picture": Image.fromarray(pixels), "texts": ["a", "b"], "similarity": similarity, "geometry": geometry, "order": order}
    return Result(**(made | fields))


@pytest.mark.parametrize("order", ["picture", "grid", "softmax", "none"])
def test_an_array_is_the_heatmaps(order: str) -> None:
    found = result(order, logit_scale=10.0)
    assert np.array_equal(found.heatmap_array(), found.heatmaps)
    assert np.array_equal(found.heatmap_array("float16"), found.heatmaps.astype(np.float16))
    part = found.heatmap_array(rows=slice(10, 40), columns=slice(-30, None))
    assert np.array_equal(part, found.heatmaps[:, 10:40, -30:])
    tiles = list(found.heatmap_tiles(side=32))
    assert len(tiles) == 2 * 3
    for rows, columns, heat in tiles:
        assert np.array_equal(heat, found.heatmaps[:, rows, columns])
    if order == "none":
        with pytest.raises(FastlocError, match="float32 or float16"):
            found.heatmap_array("uint8")
        return
    assert np.abs(found.heatmap_array(np.uint8) - 255 * found.heatmaps).max() < 1
    assert found.heatmap_array("uint8", (7, 300)).shape == (2, 7, 300)


def test_an_array_is_your_own_and_heatmaps_are_not() -> None:
    found = result()
    found.heatmap_array()[:] = 7
    assert found.heatmaps.max() == 1 and not found.heatmaps.flags.writeable


def test_a_refinement_is_read_off_its_maps() -> None:
    found = result(how="stretch").refined(iterations=1)
    assert np.abs(found.heatmap_array("uint8") - 255 * found.heatmaps).max() < 1
    small = found.heatmap_array("float32", (30, 45))
    assert small.shape == (2, 30, 45) and np.abs(small.mean((1, 2)) - found.heatmaps.mean((1, 2))).max() < 0.01


def test_what_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = result()
    for asked in ({"dtype": "int32"}, {"size": (0, 9)}, {"rows": slice(0, 9, 3)}):
        with pytest.raises(FastlocError, match=next(iter(asked))):
            found.heatmap_array(**asked)
    with pytest.raises(FastlocError, match="side"):
        found.heatmap_tiles(side=0)
    monkeypatch.setattr(Result, "max_map_bytes", 2 * 60 * 90 * 2)
    with pytest.raises(FastlocError, match="max_map_bytes"):
        found.heatmap_array()
    assert found.heatmap_array("uint8").nbytes == 2 * 60 * 90
    assert sum(heat.size for *_, heat in found.heatmap_tiles(side=30)) == 2 * 60 * 90


# --- the sheet


def as_it_was(found: Result, texts: int) -> Any:
    """Tiles as they follow from full maps: float heat scaled down by Pillow's filter, its cover in floats."""
    height, width = overlay.tile_size(found.geometry.picture, texts)
    base = found.picture.resize((width, height), Image.Resampling.LANCZOS)
    faded = np.asarray(Image.blend(base.convert("L").convert("RGB"), base, overlay.SATURATION), np.float64)
    table, made = overlay.colour_table("turbo"), []
    for heat in found.heatmaps:
        values = np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
        ramp = np.minimum(values / 0.8, 1)
        cover = (0.5 * ramp * ramp * (3 - 2 * ramp))[..., None]
        made.append(np.rint(faded * (1 - cover) + table[(values * 255).astype(np.uint8)] * cover))
    return np.stack(made)


def test_the_sheet_looks_as_one_of_full_maps_does() -> None:
    """Heat at the tile's size differs from heat averaged down where a map has a kink, between cells; colours by half a step of 255; and
    blocks of pixels are averaged before the picture is resampled, which is what the largest differences are."""
    smooth = np.asarray(Image.effect_noise((60, 45), 90).resize((1800, 1350), Image.Resampling.BICUBIC))
    picture = Image.fromarray(np.stack([smooth, smooth[::-1], smooth[:, ::-1]], -1))
    found = result(size=(1350, 1800), how="stretch", picture=picture)
    sheet = np.asarray(found.overlay())
    layout = overlay._layout(picture.size, 3)
    width, height = layout.tile
    for index, wanted in enumerate(as_it_was(found, 2), start=1):
        left, top = layout.corner(index)
        tile = sheet[top + overlay.CAPTION :, left:][:height, :width].astype(int)
        peak = found.points()[index - 1]
        off = np.abs(tile - wanted)
        y, x = round(peak.y * height / 1350), round(peak.x * width / 1800)
        # without the ring
        off[max(y - 20, 0) : y + 20, max(x - 20, 0) : x + 20] = 0
        assert off.max() <= 8 and off.mean() <= 0.5, (off.max(), off.mean())


def test_the_sheet_makes_no_full_map(monkeypatch: pytest.MonkeyPatch) -> None:
    found = result("none")
    monkeypatch.setattr(Result, "_peaks", result("none")._peaks)
    monkeypatch.setattr(Result, "heatmaps", property(lambda _: pytest.fail("full maps were made")))
    assert found.overlay().width > 300


def test_a_sheet_as_png_is_the_sheet(tmp_path: Any) -> None:
    found = result()
    with Image.open(found.save(tmp_path / "sheet.png")) as read:
        assert np.array_equal(np.asarray(read), np.asarray(found.overlay()))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found._repr_png_()))), np.asarray(found.overlay()))
