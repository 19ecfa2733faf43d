"""Every kind of source, and every way in which a picture can be bad."""

import io
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.errors import FastlocError, ImageError, unknown
from fastloc.imaging import images

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 9), np.uint8)


def same(picture, array, within=0):
    assert picture.mode == "RGB"
    assert picture.size == array.shape[1::-1]
    got, want = np.asarray(picture, int), array.astype(int)
    assert np.abs(got - (want if want.ndim == 3 else want[..., None])).max() <= within


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# --- what is read


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_files_bytes_and_pictures_agree(tmp_path, kind):
    source = Image.fromarray(COLOUR)
    content = encoded(source, kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "picture.any"
    path.write_bytes(content)
    expected = np.asarray(Image.open(path).convert("RGB"))
    for each in (path, str(path), content, Image.open(path)):
        same(images.load(each), expected)


def test_never_shares_pixels_with_the_source():
    source = Image.fromarray(COLOUR)
    loaded = images.load(source)
    loaded.putpixel((0, 0), (1, 2, 3))
    same(source, COLOUR)
    array = COLOUR.copy()
    loaded = images.load(array)
    array[:] = 0
    same(loaded, COLOUR)


ARRAYS = {
    "grey": (GREY, GREY),
    "grey 1": (GREY[..., None], GREY),
    "colour": (COLOUR, COLOUR),
    "strided": (COLOUR[::-1, ::2], COLOUR[::-1, ::2]),
    "bool": (GREY > 99, (GREY > 99) * 255),
    "uint16": (COLOUR.astype(np.uint16) * 257, COLOUR),
    "big endian uint16": ((COLOUR.astype(np.uint16) * 257).astype(">u2"), COLOUR),
    "float16": ((COLOUR / 255).astype(np.float16), COLOUR),
    "float32": ((COLOUR / 255).astype(np.float32), COLOUR),
    "float64": (COLOUR / 255, COLOUR),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(case):
    array, expected = ARRAYS[case]
    before = array.copy()
    same(images.load(array), expected)
    assert (array == before).all()


def test_uint16_is_scaled_not_clipped():
    values = np.array([[0, 128, 129, 32768, 65535]], np.uint16)
    assert np.asarray(images.load(values))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["first", "last", "grey"])
def test_tensors(dtype, layout):
    array = {"first": COLOUR.transpose(2, 0, 1), "last": COLOUR, "grey": GREY}[layout]
    tensor = torch.from_numpy(array.copy())
    if dtype.is_floating_point:
        tensor = (tensor.double() / 255).to(dtype)
    if dtype == torch.uint16:
        tensor = (tensor.int() * 257).to(dtype)
    # bfloat16 has 8 bits of mantissa, one short of telling neighbours near white apart
    same(images.load(tensor), GREY if layout == "grey" else COLOUR, within=1 if dtype == torch.bfloat16 else 0)


def test_tensor_that_needs_its_gradient_dropped():
    same(images.load(torch.zeros(3, 4, 5, requires_grad=True)), np.zeros((4, 5, 3)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # a red corner that must come out at the top left, whichever way the camera was held
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16, 0] = 255
    back = {2: [1], 3: [0, 1], 4: [0]}
    turned = np.flip(upright, back.get(orientation, []))
    if orientation >= 5:
        turned = {
            5: upright.transpose(1, 0, 2),
            6: np.rot90(upright, 1),
            7: np.rot90(upright, 2).transpose(1, 0, 2),
            8: np.rot90(upright, -1),
        }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "camera.jpg"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, quality=95, subsampling=0, exif=exif)
    same(images.load(path), upright, within=12)
    same(images.load(Image.open(path)), upright, within=12)


def test_malformed_exif_does_not_refuse_the_picture():
    content = encoded(Image.fromarray(COLOUR), "PNG", exif=b"Exif\0\0garbage")
    same(images.load(content), COLOUR)


def test_transparency_is_laid_over_white():
    alpha = np.array([[0, 128, 255]], np.uint8)
    rgba = np.dstack([np.full((1, 3, 3), 0, np.uint8), alpha])
    expected = np.repeat((255 - alpha)[..., None], 3, axis=2)
    picture = Image.fromarray(rgba)
    for source in (rgba, rgba / 255, picture, picture.convert("LA"), picture.convert("RGBa"), encoded(picture, "PNG")):
        same(images.load(source), expected, within=1)


def test_palette_with_transparency():
    source = Image.new("P", (2, 1))
    source.putpalette([255, 0, 0, 0, 0, 255])
    source.putpixel((1, 0), 1)
    same(images.load(encoded(source, "PNG", transparency=1)), np.array([[[255, 0, 0], [255, 255, 255]]]))


def test_grey_with_a_transparent_value():
    source = Image.fromarray(np.array([[0, 200]], np.uint8))
    same(images.load(encoded(source, "PNG", transparency=0)), np.array([[255, 200]]))


def test_deep_greys_are_scaled_not_clipped(tmp_path):
    deep = np.array([[0, 300, 65535]], np.uint16)
    expected = np.array([[0, 1, 255]])
    path = tmp_path / "deep.png"
    Image.fromarray(deep).save(path)
    assert Image.open(path).mode.startswith("I")
    same(images.load(path), expected)
    same(images.load(Image.fromarray(deep.astype(np.int32))), expected)
    same(images.load(Image.fromarray(np.array([[0, 0.5, 1]], np.float32))), np.array([[0, 128, 255]]))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes(mode):
    half = np.zeros((2, 4, 3), np.uint8)
    half[:, 2:] = 255
    same(images.load(Image.fromarray(half).convert(mode)), half, within=1)


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    same(images.load(content), np.array([[[255, 0, 0]] * 4] * 4), within=1)


# --- what is refused, and in which words


def refused(source, *words, name=None):
    with pytest.raises(ImageError) as caught:
        images.load(source, name)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_missing_folder_empty_and_text(tmp_path):
    refused(tmp_path / "gone.jpg", "gone.jpg", "no such file")
    refused("ftp://example.org/a.jpg", "ftp://example.org/a.jpg", "http(s)", "fetch it first")
    refused(tmp_path, str(tmp_path), "folder")
    refused("bad\0name.png", "cannot be opened")
    empty = tmp_path / "empty.png"
    empty.touch()
    refused(empty, "empty.png", "0 bytes")
    refused(b"", "0 bytes")
    text = tmp_path / "text.png"
    text.write_text("not a picture at all")
    refused(text, "text.png", "not a picture")


@pytest.mark.parametrize("kind", ["JPEG", "progressive JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(tmp_path, kind, share):
    noisy = Image.fromarray(RNG.integers(0, 256, (200, 300, 3), np.uint8))
    content = encoded(noisy, kind.split()[-1], **({"progressive": True} if " " in kind else {}))
    path = tmp_path / "cut.jpg"
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "cut.jpg")
    refused(path.read_bytes(), "upload 7", name="upload 7")


def test_corrupt(tmp_path):
    content = bytearray(encoded(Image.fromarray(RNG.integers(0, 256, (99, 99, 3), np.uint8)), "PNG"))
    content[60:90] = bytes(30)
    path = tmp_path / "corrupt.png"
    path.write_bytes(content)
    refused(path, "corrupt.png", "cannot be decoded")


def test_truncated_picture_opened_elsewhere(tmp_path):
    content = encoded(Image.fromarray(RNG.integers(0, 256, (200, 300, 3), np.uint8)), "JPEG")
    refused(Image.open(io.BytesIO(content[: len(content) // 2])), "truncated")


def test_too_many_pixels():
    content = encoded(Image.new("1", (300, 100)), "PNG")
    with pytest.raises(ImageError, match="at most max_pixels = 29,999 pixels, got 300 x 100 = 30,000"):
        images.load(content, max_pixels=29_999)
    assert images.load(content, max_pixels=30_000).size == (300, 100)


def test_pillow_s_own_limit_is_named(monkeypatch):
    content = encoded(Image.new("1", (300, 100)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    refused(content, "20000", "MAX_IMAGE_PIXELS")


def grown(content):
    """MiB that a process grows by while it loads a picture, or is refused it."""
    code = (
        "import sys, warnings; from fastloc.bench.peers.protocol import peak, reset_peak; from fastloc.imaging import images\n"
        "warnings.simplefilter('ignore'); images.load(images.Image.new('P', (9, 9))); content = sys.stdin.buffer.read()\n"
        "before = reset_peak()\n"
        "try: images.load(content)\n"
        "except images.ImageError: pass\n"
        "print((peak() - before) / 2**20)"
    )
    return float(subprocess.run([sys.executable, "-P", "-c", code], input=content, capture_output=True, check=True).stdout)


def test_a_bomb_is_refused_before_anything_is_allocated():
    # 35 bytes of GIF that claim 13,300 x 13,300 pixels
    bomb = b"GIF89a" + struct.pack("<HHBBB", 13300, 13300, 0xF0, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    bomb += b"\x02\x02\x44\x01\0;"
    with pytest.raises(ImageError, match="max_pixels"), pytest.warns(Image.DecompressionBombWarning):
        images.load(bomb)
    assert grown(bomb) < 8


def test_a_large_palette_takes_one_byte_a_pixel_beside_the_result():
    # 36 million pixels in some kilobytes: converted in strips to the four bytes each of the result
    source = Image.new("P", (6000, 6000))
    source.putpalette([255, 0, 0, 0, 0, 255])
    content = encoded(source, "PNG", transparency=1)
    assert len(content) < 100_000 and grown(content) < 36e6 * 5.5 / 2**20


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2), np.nan), ["NaN"]),
        (np.array([[0, np.inf]]), ["infinite"]),
        (np.array([[0.0, 255.0]]), ["[0, 1]", "255"]),
        (np.array([[-0.3, 0.5]]), ["-0.3"]),
        (np.array([[0.5, 1.3]]), ["1.3"]),
        (np.array([[-1, 5]]), ["16 bits", "-1 to 5"]),
        (np.array([[70000]]), ["16 bits", "70000"]),
        (np.zeros((2, 2), complex), ["complex"]),
        (np.zeros((2, 2), object), ["object"]),
        (np.zeros((0, 4, 3), np.uint8), ["no pixels", "[0, 4, 3]"]),
        (np.zeros(4, np.uint8), ["[4]"]),
        (np.zeros((3, 8, 9), np.uint8), ["channels come first"]),
        (np.zeros((2, 8, 9, 3), np.uint8), ["batch"]),
        (np.zeros((8, 9, 2), np.uint8), ["[8, 9, 2]"]),
        (Image.new("RGB", (0, 5)), ["no pixels"]),
        (Image.fromarray(np.array([[-1, 70000]], np.int32)), ["70000"]),
        (Image.fromarray(np.array([[0, 255]], np.float32)), ["[0, 1]"]),
        (torch.zeros(2, 3, 4, 4), ["batch"]),
        (torch.full((3, 4, 4), float("nan"), dtype=torch.float16), ["NaN"]),
        (torch.zeros(3, 4, 4, device="meta"), ["device meta"]),
        (torch.zeros(3, 4, 4).to_sparse(), ["dense", "to_dense()"]),
        (torch.zeros(4, 4, dtype=torch.complex64), ["complex"]),
        (torch.quantize_per_tensor(torch.zeros(4, 4), 1.0, 0, torch.quint8), ["quint8"]),
        (io.StringIO("text"), ["binary mode"]),
        (None, ["NoneType", "must be a path"]),
        ([[1, 2]], ["list"]),
    ],
)
def test_bad_values(array, words):
    refused(array, "frame 3", *words, name="frame 3")


def test_no_warning_on_the_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.load(COLOUR / 255)
        images.load(Image.fromarray(COLOUR).convert("P"))


def test_unknown_names_are_helpful():
    assert unknown("method", "gme", ["clearclip", "gem"]) == "unknown method 'gme': did you mean 'gem'? known methods: clearclip, gem"
    assert unknown("fit", "zzz", ["crop"]) == "unknown fit 'zzz': known fits: crop"
    assert "'gem'" in unknown("method", "GEM ", ["gem"])
    assert issubclass(ImageError, FastlocError) and issubclass(FastlocError, ValueError)
