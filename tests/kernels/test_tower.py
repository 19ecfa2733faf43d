"""The ops around attention, where the correctness gate does not look: layouts, work in place, edges, refusals."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from fastloc.functional.frames.patches import FrameTables, frame_tables
from fastloc.imaging.geometry import fit
from fastloc.kernels import add_norm as norm_op
from fastloc.kernels import frame_patches as frame_op
from fastloc.kernels import quick_gelu as gelu_op
from fastloc.kernels.add_norm import add_norm
from fastloc.kernels.frame_patches import frame_patches
from fastloc.kernels.launch import poisoned, recording
from fastloc.kernels.quick_gelu import quick_gelu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.float16]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quick_gelu_in_place(dtype: torch.dtype) -> None:
    x = drawn(3, 5, 211, dtype=dtype)
    expected = quick_gelu(x)
    assert expected.data_ptr() != x.data_ptr()
    assert gelu_op.why_not(x, out=x) == []
    assert quick_gelu(x, out=x) is x
    assert torch.equal(x, expected)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_quick_gelu_at_the_ends(dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    x = torch.tensor([0.0, -0.0, most, -most, 1e4, -1e4, 80.0, -80.0, float("inf"), float("nan")], dtype=dtype, device=DEVICE)
    found, expected = quick_gelu(x), gelu_op.reference(x.double()).to(dtype)
    assert torch.equal(found[:-1], expected[:-1]), found
    assert found[-1].isnan()


def test_quick_gelu_refuses() -> None:
    x = drawn(4, 6)
    assert gelu_op.why_not(x) == []
    (reason,) = gelu_op.why_not(x.double())
    assert "x must be float16, bfloat16 or float32, got float64" in reason
    (reason,) = gelu_op.why_not(x.T)
    assert "x of shape [6, 4] must be contiguous, got strides [1, 6]" in reason
    (reason,) = gelu_op.why_not(x, out=x.float())
    assert "out must be as x, [4, 6] torch.float16, got [4, 6] torch.float32" in reason
    (reason,) = gelu_op.why_not(x, out=drawn(6, 4).T)
    assert "out of shape [4, 6] must be contiguous, got strides [1, 4]" in reason


def layouts() -> dict[str, Tensor]:
    """[2, 3, 100] or what is left of it, all rows contiguous."""
    return {
        "contiguous": drawn(2, 3, 100),
        "without the class token": drawn(2, 4, 100)[:, 1:],
        "every second row": drawn(2, 6, 100)[:, ::2],
        "part of the columns": drawn(2, 3, 260)[:, :, 60:160],
        "batch and tokens swapped": drawn(3, 2, 100).transpose(0, 1),
        "one row for all": drawn(1, 1, 100).expand(2, 3, 100),
        "only the class token": drawn(2, 4, 100)[:, :1],
        "two axes": drawn(7, 200)[:, :100],
        "one axis": drawn(100),
        "four axes": drawn(2, 2, 3, 100),
        "no image": drawn(0, 3, 100),
    }


@pytest.mark.parametrize("layout", layouts())
def test_add_norm_reads_rows_where_they_lie(layout: str) -> None:
    x = layouts()[layout]
    delta, weight, bias = drawn(*x.shape, seed=1), drawn(100, seed=2), drawn(100, seed=3)
    for first, second in ((x, delta), (delta, x), (x, None)):
        assert norm_op.why_not(first, second, weight, bias, 1e-5, lengths=True) == []
        with poisoned():
            found = add_norm(first, second, weight, bias, 1e-5, lengths=True)
        copies = first.clone(memory_format=torch.contiguous_format), None if second is None else second.contiguous()
        expected = add_norm(*copies, weight, bias, 1e-5, lengths=True)
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert one is not None and other is not None and one.shape == other.shape
            assert torch.equal(one, other), f"output {place}"
        assert found[2] is not None and found[2].shape == x.shape[:-1] and found[2].dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_add_norm_sums_as_pytorch_does(dtype: torch.dtype) -> None:
    x, delta = (drawn(2, 5, 384, seed=seed, dtype=dtype) for seed in (0, 1))
    weight, bias = (drawn(384, seed=seed, dtype=dtype) for seed in (2, 3))
    total, y, lengths = add_norm(x, delta, weight, bias, 1e-5, lengths=True)
    assert torch.equal(total, x + delta) and total.data_ptr() != x.data_ptr()
    # the lengths are those of the rounded rows
    assert lengths is not None
    assert torch.allclose(lengths, torch.linalg.vector_norm(y.double(), dim=-1).float(), rtol=3e-7, atol=0)
    same, again, none = add_norm(total, None, weight, bias, 1e-5)
    assert same is total and none is None
    assert torch.equal(again, y)


def test_add_norm_refuses() -> None:
    x, row = drawn(2, 3, 64), drawn(64)

    def reasons(x: Tensor = x, delta: Tensor | None = None, weight: Tensor = row, bias: Tensor = row) -> list[str]:
        return norm_op.why_not(x, delta, weight, bias, 1e-5)

    assert reasons() == reasons(delta=x) == []
    assert reasons(drawn(3, 0)) == ["x must be [..., C] with C from 1 to 8192, got [3, 0]"]
    assert "got [8193]" in reasons(drawn(8193))[0]
    assert "got float64" in reasons(x.double())[0]
    assert reasons(delta=x[:, :2]) == ["delta must be [2, 3, 64] torch.float16, got [2, 2, 64] torch.float16"]
    assert reasons(delta=x.float()) == ["delta must be [2, 3, 64] torch.float16, got [2, 3, 64] torch.float32"]
    assert reasons(weight=row.float()) == ["weight must be [64] torch.float16, got [64] torch.float32"]
    assert reasons(bias=row[1:]) == ["bias must be [64] torch.float16, got [63] torch.float16"]
    assert reasons(drawn(2, 64, 3).transpose(1, 2)) == ["x must have stride 1 on its last axis, got 3"]
    assert "must be contiguous, got strides" in reasons(drawn(2, 2, 4, 64)[:, :, 1:])[0]
    assert "bias of shape [64] must be contiguous, got strides [2]" in reasons(bias=drawn(128)[::2])[0]


FRAME = 11, 29
ORDERS = pytest.mark.parametrize("vertical", [False, True], ids=["horizontal first", "vertical first"])


def plan(way: str = "stretch", *, vertical: bool = False) -> FrameTables:
    return replace(frame_tables(fit(FRAME, (8, 16), (8, 8), way), (8, 8), (0.5, 0.25, 0.75)), vertical_first=vertical)


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(DEVICE)


@ORDERS
def test_frames_are_read_where_they_lie(vertical: bool) -> None:
    height, width = FRAME
    tables = plan(vertical=vertical)
    views = {
        "a window": bytes_of(2, height + 3, width + 5, 3)[:, 2 : 2 + height, 3 : 3 + width],
        "every second frame, reversed in time": bytes_of(4, height, width, 3)[::2].flip(0),
        "every second row": bytes_of(1, 2 * height, width, 3)[:, ::2],
        "one frame for all": bytes_of(1, height, width, 3).expand(2, -1, -1, -1),
    }
    for name, view in views.items():
        assert frame_op.why_not(view, tables) == [], name
        assert torch.equal(frame_patches(view, tables), frame_op.reference(view, tables)), name


@pytest.mark.parametrize("way", ["letterbox", "crop"])
@ORDERS
def test_blue_may_come_first(vertical: bool, way: str) -> None:
    tables, frames = plan(way, vertical=vertical), bytes_of(1, *FRAME, 3)
    with poisoned():
        found = frame_patches(frames.flip(3), tables, torch.float32, bgr=True)
    assert torch.equal(found, frame_patches(frames, tables, torch.float32))
    assert torch.equal(found, frame_op.reference(frames, tables, torch.float32))


def test_no_frames() -> None:
    assert frame_patches(bytes_of(0, *FRAME, 3), plan()).shape == (0, 2, 192)


def test_frame_patches_refuses() -> None:
    tables, frames = plan(), bytes_of(1, *FRAME, 3)
    assert frame_op.why_not(frames, tables) == []
    assert frame_op.why_not(frames[:, 1:], tables) == [
        "frames must be [B, 11, 29, 3], the size that their tables were made for, got [1, 10, 29, 3]"
    ]
    assert frame_op.why_not(frames.int(), tables) == ["frames must be uint8, got int32"]
    (reason,) = frame_op.why_not(frames, tables, torch.float64)
    assert "dtype must be float16, bfloat16 or float32, got float64" in reason
    planar = bytes_of(1, 3, 11, 29).permute(0, 2, 3, 1)
    (reason,) = frame_op.why_not(planar, tables)
    assert "must be 3 and 1 (pixels one after another), got strides [957, 29, 1, 319]" in reason
    (reason,) = frame_op.why_not(frames.expand(65536, -1, -1, -1), tables)
    assert "frames must be at most 65535, the limit of a CUDA grid, got 65536" in reason


@pytest.mark.parametrize("op", [norm_op, gelu_op, frame_op], ids=lambda op: op.__name__.rpartition(".")[2])
def test_what_is_shipped_is_recorded_without_a_device(op: object) -> None:
    with recording() as builds:
        op.builds(64, torch.bfloat16)  # type: ignore[attr-defined]
    assert builds
    assert all(argument.is_meta for build in builds for argument in build.arguments if isinstance(argument, Tensor))
