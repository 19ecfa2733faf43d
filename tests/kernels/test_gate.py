"""The correctness gate lets nothing wrong pass, and every op passes it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fastloc.kernels.gate import DTYPES, NO_BFLOAT16, Case, Verdict, check, run
from fastloc.kernels.launch import empty
from fastloc.kernels.table import OPS, Op

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Toy(Op):
    """An op whose module is made here: y = x / |x| over the last axis, and whatever is wrong with the launcher."""

    launcher: Callable[..., Any] = lambda x: good(x)
    refuses: tuple[torch.dtype, ...] = ()
    own_check: Callable[..., str] | None = None
    reference: Callable[..., Any] = lambda x: x / x.norm(dim=-1, keepdim=True)

    @property
    def module(self) -> ModuleType:
        module = ModuleType(self.name)
        module.toy = self.launcher
        module.reference = self.reference
        module.why_not = lambda x, **_: [f"dtype {x.dtype} is not float16"] if x.dtype in self.refuses else []
        if self.own_check is not None:
            module.check = self.own_check
        return module


def good(x: Tensor) -> Tensor:
    y = empty(x.shape, x.dtype, x.device)
    return y.copy_(x.float() / x.float().norm(dim=-1, keepdim=True))


def toy(launcher: Callable[..., Any] = good, **more: Any) -> Toy:
    return Toy("toy", "", launcher, **more)


def operands(generator: torch.Generator) -> dict[str, Any]:
    return {"x": torch.randn(3, 17, 65, generator=generator, dtype=torch.float64)}


CASE = Case("B=3 N=17 C=65", operands, batched=("x",))


def unwritten(x: Tensor) -> Tensor:
    y = empty(x.shape, x.dtype, x.device)
    y[:, :, :-1] = good(x)[:, :, :-1]
    return y


def mixing(x: Tensor) -> Tensor:
    # far below any tolerance: only the bits show it
    y = good(x)
    y[1:, 0, 0] = y[1:, 0, 0].nextafter(y.new_tensor(2.0)) if x.shape[0] > 1 else y[1:, 0, 0]
    return y


def one_element(x: Tensor) -> Tensor:
    # lost in the 2-norm of 3315 elements
    y = good(x)
    y[0, 0, 0] += 0.003
    return y


def imprecise(x: Tensor) -> Tensor:
    y = empty(x.shape, x.dtype, x.device)
    squares = torch.zeros_like(x[..., 0])
    for column in range(x.shape[-1]):
        squares = squares + (x[..., column] * x[..., column]).to(torch.float8_e4m3fn).to(x.dtype)
    return y.copy_(x / squares.sqrt()[..., None])


def different_every_time(runs: Iterator[int]) -> Callable[[Tensor], Tensor]:
    def launcher(x: Tensor) -> Tensor:
        y = good(x)
        if next(runs) % 2:
            y[0, 0, 0] = y[0, 0, 0].nextafter(y.new_tensor(2.0))
        return y

    return launcher


def in_place(x: Tensor) -> Tensor:
    y = good(x)
    x.zero_()
    return y


def short(x: Tensor) -> Tensor:
    return good(x)[:, 1:]


def infinite(x: Tensor) -> Tensor:
    y = good(x)
    y[0, 3, 4] = float("inf")
    return y


def transposed(x: Tensor) -> Tensor:
    return good(x).flip(0)


def failing(x: Tensor) -> Tensor:
    raise RuntimeError("an illegal memory access was encountered")


WRONG = {
    unwritten: "51 of 3315 elements are not written or not finite",
    infinite: "1 of 3315 elements are not written or not finite",
    mixing: "image 1 alone does not give the same bits",
    one_element: "maximum error",
    imprecise: "2 x PyTorch's own",
    different_every_time(count()): "a second run does not give the same bits",
    in_place: "wrote into its argument x",
    short: "shapes must be [[3, 17, 65]], got [[3, 16, 65]]",
    transposed: "2 x PyTorch's own",
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_right_op_is_good(dtype: torch.dtype) -> None:
    verdict = check(toy(), CASE, dtype, CPU)
    assert verdict.good and not verdict.skipped, verdict
    assert 0 < verdict.error <= verdict.allowed and verdict.torch_error > 0 and verdict.max_error > 0, verdict


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_caught(wrong: Callable[..., Any]) -> None:
    verdict = check(toy(wrong), CASE, torch.float16, CPU)
    assert not verdict.good and any(WRONG[wrong] in problem for problem in verdict.problems), verdict


def test_an_op_that_fails_is_a_bad_verdict_and_ends_nothing() -> None:
    @dataclass(frozen=True)
    class Failing(Toy):
        @property
        def module(self) -> ModuleType:
            module = super().module
            module.CASES = (CASE, replace(CASE, label="large", large=True))
            return module

    verdicts = list(run(CPU, [Failing("toy", "", failing)]))
    assert len(verdicts) == len(DTYPES)
    assert verdicts[0].problems == ("raised RuntimeError: an illegal memory access was encountered",)
    assert verdicts[2].skipped == NO_BFLOAT16


def test_bfloat16_is_left_to_a_gpu() -> None:
    verdict = check(toy(failing), CASE, torch.bfloat16, CPU)
    assert verdict.good and verdict.skipped == NO_BFLOAT16


def test_float32_that_an_op_refuses_is_interpreted_all_the_same() -> None:
    verdict = check(toy(refuses=(torch.float32,)), CASE, torch.float32, CPU)
    assert verdict.good and verdict.torch_error > 0, verdict
    # a case that asks for float32 by name is one that the op must take
    verdict = check(toy(refuses=(torch.float32,)), replace(CASE, dtypes=(torch.float32,)), torch.float32, CPU)
    assert verdict.problems == ("refused: dtype torch.float32 is not float16",)


def test_a_refusal_is_a_problem_unless_the_case_is_there_for_it() -> None:
    refusing = toy(failing, refuses=(torch.float16, torch.float32))
    assert check(refusing, CASE, torch.float16, CPU).problems == ("refused: dtype torch.float16 is not float16",)
    assert check(refusing, CASE, torch.float32, CPU).problems == ("refused: dtype torch.float32 is not float16",)
    assert check(refusing, replace(CASE, refused="is not float16"), torch.float16, CPU).good
    assert not check(toy(), replace(CASE, refused="is not float16"), torch.float16, CPU).good


def rounded(x: Tensor) -> Tensor:
    return (10 * x.double()).round().to(torch.int32)


def test_integers_must_be_equal_or_please_the_op_s_own_check() -> None:
    def off_by_one(x: Tensor) -> Tensor:
        y = rounded(x)
        y[0, 0, 0] += 1
        return y

    case = replace(CASE, batched=())
    assert check(toy(rounded, reference=rounded), CASE, torch.float16, CPU).good
    assert check(toy(off_by_one, reference=rounded), case, torch.float16, CPU).problems == ("output 0: 1 of 3315 integers differ",)
    near = toy(off_by_one, reference=rounded, own_check=lambda inputs, found, exact: "" if (found - exact).abs().max() < 2 else "far")
    assert check(near, case, torch.float16, CPU).good
    far = replace(near, own_check=lambda inputs, found, exact: f"{inputs['x'].dtype} is far")
    assert check(far, case, torch.float16, CPU).problems == ("torch.float16 is far",)


def test_tuples_may_hold_none_where_the_reference_does() -> None:
    def two(x: Tensor) -> tuple[Tensor, None]:
        return good(x), None

    assert check(toy(two, reference=two), CASE, torch.float16, CPU).good
    assert "got [[3, 17, 65], None]" in check(toy(two, reference=lambda x: (x, x)), CASE, torch.float16, CPU).problems[0]


def into(x: Tensor, out: Tensor) -> Tensor:
    return out.copy_(good(x))


def over_the_edge(x: Tensor, out: Tensor) -> Tensor:
    out.as_strided(out.shape, out.stride(), out.storage_offset() + 65).copy_(good(x))
    return out.copy_(good(x))


def into_a_slot(generator: torch.Generator) -> dict[str, Any]:
    return {**operands(generator), "out": torch.zeros(3, 2, 17, 65, dtype=torch.float64)[:, 0]}


def test_out_is_written_within_its_bounds() -> None:
    case = Case("out", into_a_slot, batched=("x", "out"))
    assert check(toy(into, reference=lambda x, out: x / x.norm(dim=-1, keepdim=True)), case, torch.float16, CPU).good
    verdict = check(toy(over_the_edge, reference=lambda x, out: x / x.norm(dim=-1, keepdim=True)), case, torch.float16, CPU)
    assert verdict.problems == ("wrote beside `out`, into the storage that it is a view of",), verdict


def test_operands_keep_their_strides_and_float64_names_the_dtype_under_test() -> None:
    seen: dict[str, Any] = {}

    def launcher(x: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        seen.update(x=x, scale=scale, dtype=dtype)
        return (x.float() * scale).to(dtype)

    def columns(generator: torch.Generator) -> dict[str, Any]:
        x = torch.randn(3, 17, 4, 8, generator=generator, dtype=torch.float64)[:, 1:, 2]
        return {"x": x, "scale": torch.rand(8, generator=generator), "dtype": torch.float64}

    verdict = check(toy(launcher, reference=lambda x, scale, dtype: (x * scale).to(dtype)), Case("strided", columns), torch.float16, CPU)
    assert verdict.good, verdict
    assert seen["x"].dtype is seen["dtype"] is torch.float16 and seen["scale"].dtype is torch.float32
    assert seen["x"].stride() == (17 * 32, 32, 1) and seen["x"].storage_offset() == 32 + 16


OPS_HERE = list(OPS.values()) if find_spec("triton") else []
TRIED = [
    pytest.param(op, case, dtype, id=f"{op.name}-{case.label}-{str(dtype).removeprefix('torch.')}")
    for op in OPS_HERE
    for case in op.module.CASES
    for dtype in case.dtypes or DTYPES
    if not case.large or DEVICE.type == "cuda"
]


@pytest.mark.slow("every shape and dtype of every kernel in the interpreter", quick="op")
@pytest.mark.parametrize(("op", "case", "dtype"), TRIED)
def test_kernel(op: Op, case: Case, dtype: torch.dtype) -> None:
    verdict = check(op, case, dtype, DEVICE)
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    assert verdict.good, verdict


@pytest.mark.parametrize("op", OPS_HERE, ids=lambda op: op.name)
def test_every_op_is_tried_in_a_batch_and_with_labels_of_its_own(op: Op) -> None:
    labels = [case.label for case in op.module.CASES]
    assert len(set(labels)) == len(labels), f"{op.name}: a label twice seeds the same numbers twice"
    assert any(case.batched and not case.large for case in op.module.CASES), f"{op.name}: no case checks batch independence"


@pytest.mark.skipif(not OPS_HERE, reason="triton is not installed")
def test_the_command_line_writes_what_it_prints(tmp_path: Path) -> None:
    record = tmp_path / "verdicts.json"
    command = [sys.executable, "-m", "fastloc.kernels.gate", "--ops", "quick_gelu", "--small", "--json", str(record)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    verdicts = [Verdict(**row) for row in json.loads(record.read_text())["verdicts"]]
    assert done.returncode == 0 and verdicts and done.stdout.startswith(str(verdicts[0])), done.stdout + done.stderr
