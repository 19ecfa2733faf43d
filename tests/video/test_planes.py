"""Drawing in a decoder's planes: against its float64 statement, against the RGB drawing of the same frame, and what is drawn in RGB."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from clips import write_clip
from fastloc.imaging.geometry import fit
from fastloc.results.result import Result
from fastloc.video.output.canvas import Mark, put
from fastloc.video.output.drawing import STYLES, Drawer
from fastloc.video.output.heat_rendering import heat_of
from fastloc.video.output.plane_painting import paint_planes, plane_paints
from fastloc.video.output.warm_parts import parts_of
from fastloc.video.output.writer import VideoWriter
from fastloc.video.sources.av_pixels import planes_of
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.iterables import frame_of
from fastloc.video.sources.open_source import open_source
from fastloc.video.sources.planes import Planes, to_yuv
from reading import read

SIZE = (90, 160)
STYLES_IN_PLANES = [style for style in STYLES if style != "tiles"]


def native(size: tuple[int, int] = SIZE, pixel_format: str = "yuv420p", seed: int = 0) -> av.VideoFrame:
    """A smooth picture with grain, BT.709, limited range."""
    random = np.random.default_rng(seed)
    smooth = Image.fromarray(random.integers(40, 216, (6, 8, 3), dtype=np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    pixels = (np.asarray(smooth) + random.normal(0, 2, (*size, 1))).clip(0, 255).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return frame.reformat(format=pixel_format, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)


def planes(size: tuple[int, int] = SIZE) -> Planes:
    found = planes_of(native(size))
    assert found is not None
    return found


def result(texts: int = 3, size: tuple[int, int] = SIZE, **fields: Any) -> Result:
    """Smooth random similarities."""
    noise = np.random.default_rng(texts).standard_normal((texts, 4, 4)).astype(np.float32)
    similarity = np.stack([np.asarray(Image.fromarray(each).resize((8, 8), Image.Resampling.BICUBIC)) for each in noise])
    return Result(**{
        "picture": Image.new("RGB", size[::-1]), "texts": [f"text {text}" for text in range(texts)], "similarity": similarity,
        "geometry": fit(size, 64, 8, "stretch"), "order": "picture", **fields,
    })  # fmt: skip


def four(values: Any) -> Any:
    """Means of four, float64 [H/2, W/2]."""
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4.0


def test_colours_of_bt709() -> None:
    """White, black, grey and the primaries in limited range, Rec. ITU-R BT.709-6 to a tenth of a step."""
    colours = np.array([(255, 255, 255), (0, 0, 0), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)])
    expected = [(235, 128, 128), (16, 128, 128), (125.93, 128, 128), (62.56, 102.34, 240), (172.63, 41.67, 26.25), (31.81, 240, 117.74)]
    assert np.abs(to_yuv(colours) - expected).max() < 0.1


def test_each_cover_over_each_value() -> None:
    """Within two levels of the exact mixture; 0 changes nothing and 255 leaves the colour alone. Covers rise with rows, values with
    columns."""
    canvas = planes((512, 512)).blank()
    values = np.arange(256, dtype=np.uint8)
    canvas.luma[:] = values.repeat(2)
    canvas.blue[:] = canvas.red[:] = values
    heats = values[None, :, None].repeat(256, 2)
    for colour in ((255, 0, 128), (0, 255, 1), (0, 0, 0), (255, 255, 255)):
        drawn = paint_planes(canvas, parts_of(heats), plane_paints(np.tile(np.array(colour, np.uint8), (256, 1)), range(256)))
        for plane, old, goal in zip(drawn.all, canvas.all, to_yuv(np.array(colour)), strict=True):
            cover = np.repeat(np.arange(256), len(plane) // 256)[:, None] / 255
            assert np.abs(plane - (old * (1 - cover) + goal * cover)).max() < 2, colour
            assert np.array_equal(plane[0], old[0]) and (plane[-1] == round(goal)).all()


def test_a_part_is_painted_alone() -> None:
    """Four pixels of luma and one of chroma a place; what is around stays, and so does the source."""
    canvas = planes((8, 12))
    paints = plane_paints(np.full((256, 3), 255, np.uint8), [255] * 256)
    nothing = paint_planes(canvas, [(slice(0, 2), []), (slice(2, 4), [])], paints)
    assert all(np.array_equal(new, old) for new, old in zip(nothing.all, canvas.all, strict=True))
    for first, last in ((0, 6), (1, 2), (2, 6), (3, 4), (0, 1)):
        before = canvas.copy()
        part = (slice(1, 3), slice(first, last), np.full((2, last - first), 9))
        drawn = paint_planes(canvas, [(slice(0, 4), [part])], paints)
        expected = canvas.copy()
        expected.luma[2:6, 2 * first : 2 * last] = 235
        expected.blue[1:3, first:last] = expected.red[1:3, first:last] = 128
        assert all(np.array_equal(new, old) for new, old in zip(drawn.all, expected.all, strict=True)), (first, last)
        assert all(np.array_equal(new, old) for new, old in zip(before.all, canvas.all, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
def test_heat_in_planes_is_the_literal_mixture(threads: int) -> None:
    """Within three levels of the float64 statement wherever it is clear which text is the strongest, two of painting and one of a step of
    heat, which is read between four pixels. Nothing is brighter or darker on average."""
    size = (1024, 1026) if threads > 1 else (270, 480)
    canvas, found = planes(size), result(4, size)
    drawn = Drawer(threads=threads, threshold=1.0)(canvas, found)
    assert isinstance(drawn, Planes)
    heats = heat_of(found, (size[0] // 2, size[1] // 2)).astype(int)
    order = np.sort(heats, axis=0)
    clear, text, heat = order[-1] - order[-2] > 2, heats.argmax(0), heats.max(0) / 255.0
    rise = np.clip((heat - 0.3) / 0.6, 0, 1)
    cover = 0.6 * rise * rise * (3 - 2 * rise)
    hues = to_yuv(np.array([(255, 84, 48), (40, 140, 255), (64, 214, 96), (255, 200, 20)]))
    # below the legend, and beside the rings
    seen = np.zeros(heat.shape, bool)
    seen[size[0] // 4 :, : size[1] // 4] = True
    for point in found.points():
        seen[max(point.y // 2 - 20, 0) : point.y // 2 + 20, max(point.x // 2 - 20, 0) : point.x // 2 + 20] = False
    seen &= clear
    assert seen.mean() > 0.1 and (cover[seen] > 0.3).mean() > 0.05
    for plane, old, axis in zip(drawn.all, canvas.all, range(3), strict=True):
        share, ink, here = (each if axis else each.repeat(2, 0).repeat(2, 1) for each in (cover, hues[text, axis], seen))
        off = (plane - (old * (1 - share) + ink * share))[here]
        assert np.abs(off).max() <= 3 and abs(off.mean()) < 0.5, (axis, float(np.abs(off).max()), float(off.mean()))


@pytest.mark.parametrize("texts", [1, 4])
@pytest.mark.parametrize("style", STYLES_IN_PLANES)
def test_planes_look_like_the_rgb_drawing(style: str, texts: int) -> None:
    """The same frame both ways: luma as that of each RGB pixel, chroma as the mean of four; the source is left as it was."""
    size = (540, 960) if style == "heat" else SIZE
    canvas, found = planes(size), result(texts, size)
    before = canvas.copy()
    drawn, pixels = Drawer(style)(canvas, found), Drawer(style)(canvas.rgb(), found)
    assert isinstance(drawn, Planes) and drawn.shape == size
    assert all(np.array_equal(old, new) for old, new in zip(before.all, canvas.all, strict=True))
    exact = to_yuv(pixels)
    for plane, expected in zip(drawn.all, (exact[..., 0], four(exact[..., 1]), four(exact[..., 2])), strict=True):
        off = np.abs(plane - expected)
        # a sample of chroma between two texts, or below two marks, has the one's colour or a share of both
        assert np.quantile(off, 0.97) <= 4 and off.mean() < 1.5, (style, float(off.mean()), float(off.max()))
    # swscale's RGB is off by 2.2 and painting by 2, and heat is half a pixel away; luma beside another text may have that one's
    assert np.quantile(np.abs(drawn.luma - exact[..., 0]), 0.99 if style == "heat" and texts > 1 else 1) <= 5
    assert not np.array_equal(drawn.luma, canvas.luma)


@pytest.mark.parametrize(("left", "top"), [(0, 0), (1, 0), (4, 7), (-3, -2), (-1, 5), (150, 85), (159, 89), (-40, 0), (400, 0)])
def test_a_mark_at_odd_places_and_edges(left: int, top: int) -> None:
    """Luma and chroma are the exact mixtures, of chroma the mean of the four, within the rounding of colours and opacities."""
    random = np.random.default_rng(left % 97)
    rgba = np.concatenate([random.integers(0, 256, (11, 17, 3)), random.choice([0, 90, 255], (11, 17, 1))], axis=2).astype(np.uint8)
    canvas = planes()
    drawn = canvas.copy()
    put(drawn, Mark(Image.fromarray(rgba)), left, top)
    colours, cover = np.zeros((90 + 100, 160 + 500, 3)), np.zeros((90 + 100, 160 + 500))
    place = (slice(50 + top, 50 + top + 11), slice(50 + left, 50 + left + 17))
    colours[place], cover[place] = to_yuv(rgba[..., :3]), rgba[..., 3] / 255
    colours, cover = colours[50:140, 50:210], cover[50:140, 50:210]
    assert np.abs(drawn.luma - (canvas.luma * (1 - cover) + colours[..., 0] * cover)).max() <= 1.01
    for plane, old, axis in ((drawn.blue, canvas.blue, 1), (drawn.red, canvas.red, 2)):
        assert np.abs(plane - (old * (1 - four(cover)) + four(colours[..., axis] * cover))).max() <= 1.51


def test_a_mark_over_luma_is_pillow_s_paste() -> None:
    """Every opacity over every value, to the same bit."""
    values = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    for grey in (0, 77, 255):
        mark = np.dstack([np.full((256, 256, 3), grey, np.uint8), values.T])
        canvas = planes((256, 256)).blank()
        canvas.luma[:], canvas.blue[:], canvas.red[:] = values, 128, 128
        expected = Image.fromarray(values)
        expected.paste(int(np.rint(to_yuv(np.full(3, grey))[0])), (0, 0, 256, 256), Image.fromarray(np.ascontiguousarray(values.T)))
        put(canvas, Mark(Image.fromarray(mark)), 0, 0)
        assert np.array_equal(canvas.luma, np.asarray(expected))


def test_a_sheet_is_pixels() -> None:
    canvas, found = planes(), result(2)
    assert np.array_equal(Drawer("tiles")(canvas, found), Drawer("tiles")(canvas.rgb(), found))
    frame = frame_of(canvas.native, 0, 0.0, 0.0)
    assert np.array_equal(Drawer("tiles").on(frame, found), Drawer("tiles")(frame.rgb, found))


@pytest.mark.parametrize("kind", ["yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuva420p", "nv12", "rgb24", "gray"])
def test_other_formats_are_drawn_in_rgb(kind: str) -> None:
    frame = frame_of(native(pixel_format=kind), 0, 0.0, 0.0)
    assert frame.planes is None
    assert np.array_equal(Drawer().on(frame, result()), Drawer()(frame.rgb, result()))


def test_what_planes_are_taken_of() -> None:
    """Frames of 8 bits in BT.709, limited range, also by their size alone; with even sides, upright."""
    assert isinstance(Drawer().on(frame_of(native(), 0, 0.0, 0.0), result()), Planes)
    for change, size, there in (
        ({"colorspace": Colorspace.ITU601}, SIZE, False),
        ({"colorspace": 6}, SIZE, False),
        ({"colorspace": 9}, SIZE, False),
        ({"colorspace": 2}, SIZE, False),
        ({"colorspace": 2}, (578, 64), True),
        ({"color_range": ColorRange.JPEG}, SIZE, False),
        ({"color_range": ColorRange.UNSPECIFIED}, SIZE, True),
        ({}, (91, 160), False),
        ({}, (90, 161), False),
    ):
        frame = native(size)
        for name, value in change.items():
            setattr(frame, name, value)
        assert (planes_of(frame) is not None) == there, (change, size)
    array = np.zeros((*SIZE, 3), np.uint8)
    assert frame_of(array, 0, 0.0, 0.0).planes is None
    assert Frame(0, 0.0, 0.0, SIZE, lambda: array).planes is None


@pytest.mark.parametrize(
    ("turn", "there"), [({}, True), ({"rotation": 90}, False), ({"rotation": 180}, False), ({"mirrored": True}, False)]
)
def test_frames_that_are_turned_are_drawn_in_rgb(tmp_path: Path, turn: dict[str, Any], there: bool) -> None:
    path = write_clip(tmp_path / "x.mp4", [np.full((*SIZE, 3), 90, np.uint8)], matrix="bt709", **turn)
    (frame,) = read(open_source(path))
    assert (frame.planes is not None) == there


def test_planes_are_written_as_they_are(tmp_path: Path) -> None:
    """Without loss to the last bit, and the decoder's frame keeps its time; a picture of another size is fitted in."""
    canvas = planes()
    canvas.native.pts = 5
    with VideoWriter(tmp_path / "x.mp4", quality=0) as video:
        for picture in (canvas, canvas, planes((64, 96)), canvas.rgb()):
            video.write(picture)
    assert canvas.native.pts == 5
    first, second, fitted, pixels = read(open_source(tmp_path / "x.mp4"))
    for frame in (first, second):
        assert frame.planes is not None
        assert all(np.array_equal(new, old) for new, old in zip(frame.planes.all, canvas.all, strict=True))
    assert fitted.size == SIZE and np.abs(fitted.rgb[:, :2].astype(int)).max() <= 3, "black bars"
    assert np.abs(pixels.rgb.astype(int) - canvas.rgb()).max() <= 12
