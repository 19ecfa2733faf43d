"""The correctness gate: a comparison of every op with its PyTorch reference, on the current device.

    python -m fastloc.kernels.gate                            # every op on this GPU, or interpreted where there is none
    python -m fastloc.kernels.gate --ops add_norm --json verdicts.json

For every case of an op in every dtype:

* error: with exact = the reference in float64 of the operands as rounded to the dtype, ‖found − exact‖ / ‖exact‖ is at most twice
  that of the reference in the dtype itself, plus half a unit in the last place of the output's dtype; in the maximum norm, where
  one element in a million still counts, at most four times and one unit. Integers are equal. A module's own
  `check(inputs, found, exact) -> str` replaces these rules;
* every element is written (outputs are poisoned) and finite where the exact one is;
* an image alone gives the bits that it gives in a batch, and a second run the bits of the first;
* the arguments are unchanged, except `out`.
"""

import argparse
import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastloc.kernels import device as devices
from fastloc.kernels.launch import poisoned
from fastloc.kernels.table import OPS, Op
from fastloc.utils.atomic_write import write_text

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NO_BFLOAT16 = "Triton's interpreter multiplies bfloat16 bit patterns in tl.dot and truncates what it stores: judged on a GPU only"
# a GPU's own float32 exp2, reciprocal square root and division are off by up to two units in the last place, by design
APPROXIMATIONS = 4
Inputs = dict[str, Any]
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Case:
    """One set of arguments to test an op with; irregular on purpose."""

    label: str
    # the launcher's arguments, on the CPU. A float64 tensor, or torch.float64 itself, stands for the dtype under test
    inputs: Callable[[torch.Generator], Inputs]
    # arguments whose axis 0 is the batch, as it then is in every output: each image alone must give the same bits
    batched: tuple[str, ...] = ()
    # too slow for the interpreter: only on a GPU
    large: bool = False
    # None: float16, bfloat16 and float32, the last on a GPU only where the op takes it
    dtypes: tuple[torch.dtype, ...] | None = None
    # part of the reason with which `why_not` must refuse this case; nothing is run then
    refused: str = ""


@dataclass(frozen=True)
class Verdict:
    """The result of one case in one dtype. Errors are the worst output's, relative in the 2-norm, `max_error` in the maximum norm."""

    op: str
    case: str
    dtype: str
    error: float = 0.0
    torch_error: float = 0.0
    max_error: float = 0.0
    allowed: float = 0.0
    problems: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def good(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        head = f"{'BAD ' if self.problems else 'skip' if self.skipped else 'good'}  {self.op} · {self.case} · {self.dtype}"
        if self.problems or self.skipped:
            return f"{head}: {self.skipped or '; '.join(self.problems)}"
        if not self.allowed:
            return f"{head}: equal, or good by the op's own check"
        return f"{head}: error {self.error:.1e} of {self.allowed:.1e} allowed (PyTorch {self.torch_error:.1e})"


def run(device: torch.device, ops: Iterable[Op] = tuple(OPS.values()), large: bool = False) -> Iterator[Verdict]:
    """Run every case of `ops` on `device` in every dtype; a kernel's exception becomes a problem of its verdict."""
    for op in ops:
        for case in op.module.CASES:
            if large or not case.large:
                for dtype in case.dtypes or DTYPES:
                    try:
                        verdict = check(op, case, dtype, device)
                    # the later cases still get a verdict
                    except Exception as error:
                        verdict = replace(_blank(op, case, dtype), problems=(f"raised {type(error).__name__}: {error}",))
                    yield verdict


def check(op: Op, case: Case, dtype: torch.dtype, device: torch.device) -> Verdict:
    """Run one case in one dtype; every broken rule is a problem of the verdict. Raises the launcher's exceptions."""
    verdict = _blank(op, case, dtype)
    made = case.inputs(torch.Generator().manual_seed(zlib.crc32(case.label.encode())))
    inputs = _cast(made, dtype, device)
    reasons = op.module.why_not(**inputs)
    if case.refused:
        stated = any(case.refused in reason for reason in reasons)
        return verdict if stated else replace(verdict, problems=(f"why_not must give the reason {case.refused!r}, got {reasons}",))
    interpreted = device.type == "cpu"
    if interpreted and dtype is torch.bfloat16:
        return replace(verdict, skipped=NO_BFLOAT16)
    # full float32 is for the interpreter, where it shows the formula without rounding
    float32_only = bool(reasons) and dtype is torch.float32 and case.dtypes is None
    if float32_only and not op.module.why_not(**_cast(made, torch.float16, device)):
        if not interpreted:
            return replace(verdict, skipped="; ".join(reasons))
    elif reasons:
        return replace(verdict, problems=tuple(f"refused: {reason}" for reason in reasons))
    return _measured(op, case, inputs, verdict)


def _blank(op: Op, case: Case, dtype: torch.dtype) -> Verdict:
    return Verdict(op.name, case.label, str(dtype).removeprefix("torch."))


def _measured(op: Op, case: Case, inputs: Inputs, verdict: Verdict) -> Verdict:
    problems: list[str] = []
    found = _launched(op, inputs, problems)
    exact = _outputs(op.module.reference(**_cast(inputs, torch.float64, None)))
    rough = _outputs(op.module.reference(**inputs))
    shapes, expected = ([None if each is None else list(each.shape) for each in outputs] for outputs in (found, exact))
    if shapes != expected:
        return replace(verdict, problems=(*problems, f"shapes must be {expected}, got {shapes}"))
    problems += _differences("a second run", _launched(op, inputs, problems), found)
    for image in range(_batch(case, inputs)):
        rows = tuple(None if each is None else each[image : image + 1] for each in found)
        problems += _differences(f"image {image} alone", _launched(op, _only(case, inputs, image), problems), rows)
    own_check = getattr(op.module, "check", None)
    if own_check is not None:
        problems += filter(None, [own_check(inputs, _as_returned(found), _as_returned(exact))])
    judged = []
    for place, (output, target, plain) in enumerate(zip(found, exact, rough, strict=True)):
        if output is not None and target is not None and plain is not None:
            judged.append(_judged(verdict, output, target, plain, own_check is None))
            problems += [f"output {place}: {problem}" for problem in judged[-1].problems]
    worst = max(judged, key=lambda each: math.inf if math.isnan(each.error) else each.error / (each.allowed or 1.0), default=verdict)
    # the same problem in several runs counts once
    return replace(worst, problems=tuple(dict.fromkeys(problems)))


def _judged(verdict: Verdict, found: Tensor, exact: Tensor, rough: Tensor, by_error: bool) -> Verdict:
    """The verdict with the rules for one output's values applied; `rough` is PyTorch's result in the dtype under test."""
    if not found.is_floating_point():
        different = int((found != exact).sum()) if by_error else 0
        return replace(verdict, problems=(f"{different} of {found.numel()} integers differ",) * bool(different))
    lost = int((~found.isfinite() & exact.isfinite()).sum())
    problems = [f"{lost} of {found.numel()} elements are not written or not finite"] * bool(lost)
    if not by_error:
        return replace(verdict, problems=tuple(problems))
    ulp = torch.finfo(found.dtype).eps
    if found.dtype is torch.float32:
        ulp *= APPROXIMATIONS if found.is_cuda else _interpreted()
    error, torch_error = _distance(found, exact), _distance(rough, exact)
    max_error, torch_max_error = _distance(found, exact, math.inf), _distance(rough, exact, math.inf)
    allowed, max_allowed = 2 * torch_error + ulp / 2, 4 * torch_max_error + ulp
    # written so that a NaN fails
    if not error <= allowed:
        problems.append(f"error {error:.2e} is over {allowed:.2e}, 2 x PyTorch's own {torch_error:.2e} and {ulp / 2:.1e}")
    if not max_error <= max_allowed:
        problems.append(f"maximum error {max_error:.2e} is over {max_allowed:.2e}, 4 x PyTorch's own {torch_max_error:.2e} and {ulp:.1e}")
    return replace(verdict, error=error, torch_error=torch_error, max_error=max_error, allowed=allowed, problems=tuple(problems))


@cache
def _interpreted() -> int:
    """Twice the units by which the interpreter's exp2, which is NumPy's, is off: 2 with AVX-512, and else 1."""
    x = np.linspace(-30, 0, 30_001, dtype=np.float32)
    exact = np.exp2(x.astype(np.float64))
    return max(round(2 * float((np.abs(np.exp2(x) - exact) / np.spacing(exact.astype(np.float32))).max())), 1)


def _launched(op: Op, inputs: Inputs, problems: list[str]) -> tuple[Tensor | None, ...]:
    """The op's outputs from poisoned memory; a write elsewhere is added to `problems`."""
    copies = _each(inputs, lambda tensor: _whole(tensor).clone().as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()))
    if isinstance(copies.get("out"), Tensor):
        _whole(copies["out"]).fill_(math.nan)
    with poisoned():
        found = _outputs(getattr(op.module, op.name)(**copies))
    # `out` may be returned, and is poisoned again below
    found = tuple(None if each is None else each.clone() for each in found)
    for name, before in inputs.items():
        after = copies[name]
        if name == "out" and isinstance(after, Tensor):
            after.fill_(math.nan)
            if not bool(_whole(after).isnan().all()):
                problems.append("wrote beside `out`, into the storage that it is a view of")
        elif any(not _same_bits(_whole(old), _whole(new)) for old, new in zip(_tensors(before), _tensors(after), strict=True)):
            problems.append(f"wrote into its argument {name}")
    return found


def _cast(inputs: Any, dtype: torch.dtype, device: torch.device | None) -> Any:
    """Cast operands, which are float64, to `dtype` on `device`. With `dtype` float64 every float becomes float64 on its own device."""
    exact = dtype is torch.float64

    def cast(tensor: Tensor) -> Tensor:
        expected = dtype if tensor.dtype is torch.float64 or (exact and tensor.is_floating_point()) else tensor.dtype
        # the whole storage is copied, so that strides and the offset stay as in the case
        whole = _whole(tensor).to(device=device or tensor.device, dtype=expected, copy=True)
        return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    return _each(inputs, cast, lambda kind: dtype if kind is torch.float64 or (exact and kind.is_floating_point) else kind)


def _each(value: Any, of_tensor: Callable[[Tensor], Tensor], of_dtype: Callable[[torch.dtype], torch.dtype] = lambda kind: kind) -> Any:
    """`value` with its tensors and dtypes replaced, in dicts, tuples and lists too."""
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, torch.dtype):
        return of_dtype(value)
    if isinstance(value, dict):
        return {name: _each(each, of_tensor, of_dtype) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_each(each, of_tensor, of_dtype) for each in value)
    return value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _each(value, note)
    return found


def _whole(tensor: Tensor) -> Tensor:
    """All of the storage that `tensor` is a view of, flat."""
    return tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)


def _batch(case: Case, inputs: Inputs) -> int:
    """The number of images of a batch; 0 if there is nothing to compare, as with one image."""
    sizes = {tensor.shape[0] for name in case.batched for tensor in _tensors(inputs[name])}
    if len(sizes) > 1:
        raise ValueError(f"case {case.label!r}: batched arguments have different batches, {sorted(sizes)}")
    return max(sizes, default=0) if sizes != {1} else 0


def _only(case: Case, inputs: Inputs, image: int) -> Inputs:
    """The arguments with one image of the batch, as a view."""
    return {name: _each(value, lambda each: each[image : image + 1]) if name in case.batched else value for name, value in inputs.items()}


def _outputs(returned: Any) -> tuple[Tensor | None, ...]:
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def _as_returned(outputs: tuple[Tensor | None, ...]) -> Any:
    return outputs[0] if len(outputs) == 1 else outputs


def _same_bits(one: Tensor, other: Tensor) -> bool:
    as_integers = _BITS[one.element_size()]
    return one.dtype == other.dtype and torch.equal(one.contiguous().view(as_integers), other.contiguous().view(as_integers))


def _differences(name: str, found: tuple[Tensor | None, ...], expected: tuple[Tensor | None, ...]) -> list[str]:
    problems = []
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one is None or other is None:
            continue
        if one.shape != other.shape or not _same_bits(one, other):
            problems.append(f"output {place}: {name} does not give the same bits")
    return problems


def _distance(found: Tensor, exact: Tensor, order: float = 2.0) -> float:
    """‖found − exact‖ / ‖exact‖, or ‖found‖ where the exact result is zero, over the elements whose exact value is finite."""
    there = exact.isfinite()
    expected = exact[there].double()
    size = float(torch.linalg.vector_norm(expected, order)) if expected.numel() else 0.0
    difference = found[there].double() - expected
    return float(torch.linalg.vector_norm(difference, order)) / (size or 1.0) if expected.numel() else 0.0


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if every verdict is good, 1 if one is bad, 2 if nothing can run here."""
    parser = argparse.ArgumentParser(prog="python -m fastloc.kernels.gate", description="Check every kernel on this machine's device.")
    parser.add_argument("--ops", nargs="+", choices=OPS, default=list(OPS), metavar="OP", help="only these: " + ", ".join(OPS))
    parser.add_argument("--device", help="cuda, cuda:1 … or cpu (the interpreter, slow); cuda where there is one")
    parser.add_argument("--small", action="store_true", help="leave out the large cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdicts to this file too")
    chosen = parser.parse_args(arguments)
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu":
        # no op's module, and so no triton, has been imported yet
        os.environ["TRITON_INTERPRET"] = "1"
    if reasons := devices.why_not(device):
        print(*reasons, sep="\n", file=sys.stderr)
        return 2
    verdicts = []
    for verdict in run(device, [OPS[name] for name in chosen.ops], large=device.type == "cuda" and not chosen.small):
        print(verdict, flush=True)
        verdicts.append(verdict)
    bad, skipped = sum(not each.good for each in verdicts), sum(bool(each.skipped) for each in verdicts)
    print(f"{len(verdicts) - bad - skipped} good, {bad} bad, {skipped} skipped on {_named(device)}")
    if chosen.json:
        record = {"device": _named(device), "torch": torch.__version__, "verdicts": [asdict(each) for each in verdicts]}
        write_text(chosen.json, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    return 1 if bad else 0


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the interpreter"


if __name__ == "__main__":
    sys.exit(main())
