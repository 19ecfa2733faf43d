"""Camera frames to the operand of the patch embedding, with the bytes that Pillow's resize gives.

    one axis:  byte = clip((1 << 21) + sum_k weights[k, i] * bytes[start[i] + k] >> 22, 0, 255)
    patches[b, (gy, gx), (c, r, s)] = (byte[b, c, gy * ph + r, gx * pw + s] - 128) / 64, the mean colour where the input is padded

The first kernel resizes one axis and takes the channels apart, the second resizes the other and cuts patches. Only what lies within the
model's input is computed. The tables (`fastloc.functional.frames.patches`) determine the first axis, because Pillow's rounding
between the two passes depends on their order.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastloc.functional.frames.patches import FrameTables, frame_refusals, frame_tables, plain_patches
from fastloc.imaging.geometry import fit
from fastloc.imaging.pillow_resize import PRECISION_BITS
from fastloc.kernels.gate import Case
from fastloc.kernels.launch import empty, launch

BITS = tl.constexpr(PRECISION_BITS)
HALF = tl.constexpr(1 << (PRECISION_BITS - 1))
DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@triton.jit
def _rounded(total):
    return tl.minimum(tl.maximum(total >> BITS, 0), 255)


@triton.jit
def _horizontal_first_kernel(
    frames,  # [B, high, w, 3] uint8, strides batch_stride, row_stride, 3, 1: the part of the frames that is read
    starts,  # [wide] int32
    weights,  # [taps, wide] int32
    planes,  # [B, 3, high, pitch] uint8, written from column `offset` on
    batch_stride,
    row_stride,
    taps,
    high,
    wide,
    offset,
    pitch,
    BGR: tl.constexpr,
    BN: tl.constexpr,
):
    """Four rows of BN bytes, three a pixel as in the frame. Rows of their own, not a tile: Triton before 3.7 would put rows on lanes."""
    image, y = tl.program_id(2).to(tl.int64), tl.program_id(1) * 4
    byte = tl.program_id(0) * BN + tl.arange(0, BN)
    x, channel = byte // 3, byte % 3
    column = tl.minimum(x, wide - 1)
    # beyond the edge the last row and column are computed again, so that nothing is read that is not there
    last = high - 1 - y
    second, third, fourth = tl.minimum(last, 1), tl.minimum(last, 2), tl.minimum(last, 3)
    source = frames + image * batch_stride + y.to(tl.int64) * row_stride + tl.load(starts + column) * 3 + channel
    a = tl.full([BN], HALF, tl.int32)
    b, c, d = a, a, a
    for k in tl.range(0, taps, loop_unroll_factor=4):
        weight = tl.load(weights + k * wide + column)
        a += weight * tl.load(source).to(tl.int32)
        b += weight * tl.load(source + second * row_stride).to(tl.int32)
        c += weight * tl.load(source + third * row_stride).to(tl.int32)
        d += weight * tl.load(source + fourth * row_stride).to(tl.int32)
        source += 3
    target = planes + ((image * 3 + (2 - channel if BGR else channel)) * high + y) * pitch + offset + x
    tl.store(target, _rounded(a).to(tl.uint8), x < wide)
    tl.store(target + second * pitch, _rounded(b).to(tl.uint8), x < wide)
    tl.store(target + third * pitch, _rounded(c).to(tl.uint8), x < wide)
    tl.store(target + fourth * pitch, _rounded(d).to(tl.uint8), x < wide)


@triton.jit
def _vertical_first_kernel(
    frames,  # [B, h, wide, 3] uint8, strides batch_stride, row_stride, 3, 1: the part of the frames that is read
    starts,  # [high] int32
    weights,  # [taps, high] int32
    planes,  # [B, 3, high, pitch] uint8
    batch_stride,
    row_stride,
    taps,
    high,
    wide,
    pitch,
    BGR: tl.constexpr,
    BN: tl.constexpr,
):
    """BN bytes of one row, three a pixel as in the frame."""
    image, y = tl.program_id(2).to(tl.int64), tl.program_id(1)
    byte = tl.program_id(0) * BN + tl.arange(0, BN)
    x, channel = byte // 3, byte % 3
    source = frames + image * batch_stride + tl.load(starts + y).to(tl.int64) * row_stride + byte
    total = tl.full([BN], HALF, tl.int32)
    for k in tl.range(0, taps, loop_unroll_factor=4):
        total += tl.load(weights + k * high + y) * tl.load(source, byte < 3 * wide, 0).to(tl.int32)
        source += row_stride
    target = planes + ((image * 3 + (2 - channel if BGR else channel)) * high + y) * pitch + x
    tl.store(target, _rounded(total).to(tl.uint8), byte < 3 * wide)


@triton.jit
def _second_pass_kernel(
    planes,  # [B, 3, high, pitch] uint8
    starts,  # [n] int32
    weights,  # [taps, n] int32
    patches,  # [B, P, 3 * PH * PW]
    taps,
    high,
    pitch,
    top,  # the resized picture within the input, which is padded around it
    left,
    rows,
    columns,
    height,  # of the input
    width,
    red,  # the colour of the padding
    green,
    blue,
    VERTICAL_FIRST: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """A tile of BM rows and BN columns of one channel of the model's input."""
    channel, image = tl.program_id(0) % 3, tl.program_id(2).to(tl.int64)
    y = tl.program_id(1) * BM + tl.arange(0, BM)
    x = tl.program_id(0) // 3 * BN + tl.arange(0, BN)
    row, column = tl.minimum(tl.maximum(y - top, 0), rows - 1), tl.minimum(tl.maximum(x - left, 0), columns - 1)
    plane = planes + (image * 3 + channel) * high * pitch
    total = tl.full([BM, BN], HALF, tl.int32)
    if VERTICAL_FIRST:
        source = plane + (row * pitch)[:, None] + tl.load(starts + column)[None, :]
        for k in tl.range(0, taps, loop_unroll_factor=4):
            weight = tl.load(weights + k * columns + column)
            total += weight[None, :] * tl.load(source).to(tl.int32)
            source += 1
    else:
        # the planes lie as the input does, padding and all, so that pixels are read in aligned runs
        source = plane + (tl.load(starts + row) * pitch)[:, None] + x[None, :]
        for k in tl.range(0, taps, loop_unroll_factor=4):
            weight = tl.load(weights + k * rows + row)
            total += weight[:, None] * tl.load(source, (x < pitch)[None, :], 0).to(tl.int32)
            source += pitch
    colour = tl.where(channel == 0, red, tl.where(channel == 1, green, blue))
    padded = ((y < top) | (y >= top + rows))[:, None] | ((x < left) | (x >= left + columns))[None, :]
    value = tl.where(padded, colour, (_rounded(total) - 128).to(tl.float32) * (1 / 64))
    across, patch_size = width // PW, 3 * PH * PW
    patches += (image * (height // PH * across)) * patch_size + channel * (PH * PW)
    target = patches + (y // PH * across * patch_size + y % PH * PW)[:, None] + (x // PW * patch_size + x % PW)[None, :]
    tl.store(target, value.to(patches.dtype.element_ty), (y < height)[:, None] & (x < width)[None, :])


def _configuration(vertical_first: bool) -> dict[str, int]:
    """Tiles and warps of the first kernel and, with a 2, of the second."""
    if vertical_first:
        # in the second, one column a thread: with more, every gathered byte would pass shared memory into the layout of the store
        return {"BN": 1024, "num_warps": 4, "BM2": 1, "BN2": 128, "num_warps2": 4}
    # in the second, eight columns a thread: 16 bytes of half floats
    return {"BN": 128, "num_warps": 4, "BM2": 4, "BN2": 256, "num_warps2": 4}


def frame_patches(
    frames: Tensor, plan: FrameTables, dtype: torch.dtype = torch.float16, *, bgr: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The patches of camera frames, bit for bit those of `frames.plain_patches`.

    Args:
        frames: [B, H, W, 3] uint8, of any strides except the last two, which are 3 and 1.
        plan: the tables for frames of this size. The first call on a device copies them there.
        dtype: of the result, float16, bfloat16 or float32: every byte is exact in each.
        bgr: True if the frames' channels are blue, green, red.
        configuration: {"BN", "num_warps"} of the first kernel and {"BM2", "BN2", "num_warps2"} of the second in place of the shipped.

    Returns: [B, P, 3 * ph * pw] of dtype, patches row by row, each in the order channel (red first), row, column.
    """
    config = configuration or _configuration(plan.vertical_first)
    plan = plan.to(frames.device)
    batch, rows, columns, (ph, pw), (height, width) = len(frames), plan.rows, plan.columns, plan.patch, plan.input
    part = frames[:, rows.first : rows.first + rows.count, columns.first : columns.first + columns.count]
    second, high, wide = (columns, len(rows.start), columns.count) if plan.vertical_first else (rows, rows.count, width)
    # 16 bytes is the widest access
    pitch = triton.cdiv(wide, 16) * 16
    planes = empty((batch, 3, high, pitch), torch.uint8, frames.device)
    if plan.vertical_first:
        grid = triton.cdiv(3 * wide, config["BN"]), high, batch
        launch(_vertical_first_kernel, grid, part, rows.start, rows.weights, planes, *part.stride()[:2], len(rows.weights), high, wide,
               pitch, num_warps=config["num_warps"], num_stages=1, BGR=bgr, BN=config["BN"])  # fmt: skip
    else:
        resized = len(columns.start)
        grid = triton.cdiv(3 * resized, config["BN"]), triton.cdiv(high, 4), batch
        launch(_horizontal_first_kernel, grid, part, columns.start, columns.weights, planes, *part.stride()[:2], len(columns.weights), high,
               resized, columns.offset, pitch, num_warps=config["num_warps"], num_stages=1, BGR=bgr, BN=config["BN"])  # fmt: skip
    patches = empty((batch, height // ph * (width // pw), 3 * ph * pw), dtype, frames.device)
    grid = 3 * triton.cdiv(width, config["BN2"]), triton.cdiv(height, config["BM2"]), batch
    launch(_second_pass_kernel, grid, planes, second.start, second.weights, patches, len(second.weights), high, pitch,
           rows.offset, columns.offset, len(rows.start), len(columns.start), height, width, *plan.padding,
           num_warps=config["num_warps2"], num_stages=1,
           VERTICAL_FIRST=plan.vertical_first, PH=ph, PW=pw, BM=config["BM2"], BN=config["BN2"])  # fmt: skip
    return patches


def why_not(
    frames: Tensor, plan: FrameTables, dtype: torch.dtype = torch.float16, *, bgr: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> list[str]:  # fmt: skip
    """Every reason to refuse these arguments."""
    if reasons := frame_refusals(frames, plan):
        return reasons
    if frames.stride()[2:] != (3, 1):
        reasons.append(f"the last two strides of frames must be 3 and 1 (pixels one after another), got strides {list(frames.stride())}")
    if dtype not in DTYPES:
        reasons.append(f"dtype must be float16, bfloat16 or float32, got {str(dtype).removeprefix('torch.')}")
    if len(frames) > 65535:
        reasons.append(f"frames must be at most 65535, the limit of a CUDA grid, got {len(frames)}")
    return reasons


def reference(
    frames: Tensor, plan: FrameTables, dtype: torch.dtype = torch.float16, *, bgr: bool = False,
    configuration: Mapping[str, int] | None = None,
) -> Tensor:  # fmt: skip
    """The op in plain PyTorch, in any floating dtype."""
    return plain_patches(frames, plan, dtype, bgr=bgr)


def check(inputs: dict[str, Any], found: Tensor, exact: Tensor) -> str:
    """The faults of a result: not a bit may differ; the padding's colour is rounded to float32 first."""
    different = int((found != exact.float().to(found.dtype)).sum())
    return f"{different} of {found.numel()} values differ" if different else ""


def _case(label: str, batch: int, frame: tuple[int, int], size: int | tuple[int, int], patch: tuple[int, int], way: str = "stretch",
          interpolation: str = "bicubic", *, vertical: bool = False, bgr: bool = False, large: bool = False,
          dtypes: tuple[torch.dtype, ...] | None = (torch.float16,)) -> Case:  # fmt: skip
    def inputs(generator: torch.Generator) -> dict[str, Any]:
        noise = torch.randint(0, 256, (batch, *frame, 3), generator=generator, dtype=torch.uint8)
        # black and white next to noise, so that the filters overshoot and are clipped
        noise[:, frame[0] // 2 :] = torch.where(noise[:, frame[0] // 2 :] < 128, 0, 255)
        plan = frame_tables(fit(frame, size, patch, way), patch, (0.48145466, 0.4578275, 0.40821073), interpolation)
        # either order of the axes, whatever the version of Pillow
        plan = replace(plan, vertical_first=vertical)
        return {"frames": noise, "plan": plan, "dtype": torch.float64, "bgr": bgr}

    return Case(label, inputs, batched=("frames",), large=large, dtypes=dtypes)


CASES = (
    _case("wider frames", 3, (13, 37), (8, 16), (8, 16), dtypes=None),
    _case("higher frames, blue first", 2, (40, 12), (8, 16), (8, 16), vertical=True, bgr=True),
    _case("patch 14 crop", 1, (30, 47), 14, (14, 14), "crop"),
    _case("patch 14 crop of a high frame", 1, (47, 19), 14, (14, 14), "crop", "bilinear", vertical=True),
    _case("letterbox over and under, blue first", 2, (9, 25), 16, (8, 8), "letterbox", bgr=True, dtypes=None),
    _case("letterbox left and right, blue first", 1, (25, 9), 14, (7, 7), "letterbox", "lanczos", vertical=True, bgr=True),
    _case("enlarged, patch 8 x 4", 1, (9, 7), (16, 28), (8, 4), "stretch", "lanczos"),
    _case("one pixel", 1, (1, 1), 16, (16, 16), vertical=True),
    _case("of the input's own size", 1, (16, 24), (16, 24), (8, 8), "stretch", "nearest"),
    _case("1080 x 1920 to 448", 2, (1080, 1920), 448, (16, 16), large=True, dtypes=None),
    _case("1920 x 1080 to 336 letterbox, patch 14", 2, (1920, 1080), 336, (14, 14), "letterbox", vertical=True, bgr=True, large=True),
)


def builds(head_width: int, dtype: torch.dtype) -> None:
    """Start every shipped configuration, for aligned and unaligned rows of bytes."""
    for frame, patch in (((1080, 1920), (16, 16)), ((1920, 1080), (16, 16)), ((1080, 1920), (14, 14))):
        frames = torch.empty(2, *frame, 3, dtype=torch.uint8, device="meta")
        plan = frame_tables(fit(frame, 448, patch), patch, (0.5, 0.5, 0.5))
        for vertical in (False, True):
            frame_patches(frames, replace(plan, vertical_first=vertical), dtype)
