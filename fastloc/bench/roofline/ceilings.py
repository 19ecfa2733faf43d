"""Ceilings of this machine: a large matrix product in each dtype, and a large copy. `floor.floor` takes them as input.

`python -P -m fastloc.bench.roofline.ceilings` is a worker of `peers.protocol` whose cases are those of `cases`; it has the pass `model`
alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from platform import python_version
from typing import Any

from fastloc.bench.peers.protocol import Call, Passes, serve
from fastloc.bench.schema import Row
from fastloc.errors import FastlocError, unknown
from fastloc.utils.hardware import packages

# a small copy is done so many times in one call: its data is in the cache from the second on, whatever was done between calls
REPEATS = 20
# instructions of CPUs that multiply matrices of a dtype themselves, as PyTorch names them
_NATIVE = {"bfloat16": ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16", "fp16")}


@dataclass(frozen=True)
class Ceiling:
    """One thing that is measured. measure: what `sizes` are. sizes: on "cpu" and "cuda"; the best of them counts."""

    what: str
    unit: str
    measure: str
    dtypes: tuple[str, ...]
    sizes: Mapping[str, tuple[int, ...]]


CEILINGS = {
    row.what: row
    for row in (
        Ceiling("product", "TFLOP/s", "side", ("float32", "float16", "bfloat16"),
                {"cpu": (1024, 2048), "cuda": (4096, 8192)}),
        # far larger than any cache
        Ceiling("copy", "TB/s", "bytes", ("uint8",), {"cpu": (256 << 20,), "cuda": (4 << 30,)}),
        Ceiling("cache copy", "TB/s", "bytes", ("uint8",), {"cpu": (2 << 20,), "cuda": (16 << 20,)}),
    )
}  # fmt: skip
# whether it works, not how fast
QUICK = {"side": 64, "bytes": 1 << 16}


def cases(device: str, threads: int = 1, quick: bool = False) -> list[dict[str, Any]]:
    """The cases for "cpu", "cuda" or "cuda:0": {"what", "dtype", "device", "threads", and "side" or "bytes"}.

    A dtype that this CPU has no instructions for is left out: what a library's plain loops reach in it is no ceiling.
    """
    kind = device.partition(":")[0]
    found = []
    for row in CEILINGS.values():
        for dtype in (each for each in row.dtypes if kind == "cuda" or _native(each)):
            for size in (QUICK[row.measure],) if quick else row.sizes[kind]:
                found.append({"what": row.what, "dtype": dtype, "device": device, "threads": threads, row.measure: size})
    return found


def _native(dtype: str) -> bool:
    if dtype not in _NATIVE:
        return True
    import torch

    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(each) for each in _NATIVE[dtype])


def contender(case: Mapping[str, Any]) -> str:
    """Contender of a case's row: "product float32", "copy", "cache copy"."""
    return f"{case['what']} {case['dtype']}" if len(_row(case).dtypes) > 1 else str(case["what"])


def shape(case: Mapping[str, Any]) -> str:
    """The row's `case`."""
    row = _row(case)
    size = case[row.measure]
    return f"{size} x {size} x {size}" if row.measure == "side" else f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"


def rate(case: Mapping[str, Any], ms: float) -> tuple[float, str]:
    """(value, unit) of a call of so many milliseconds. Bytes that are copied count twice, as read and as written."""
    row = _row(case)
    size = case[row.measure]
    done = 2 * size**3 if row.measure == "side" else 2 * size * _repeats(case)
    return done / ms / 1e9, row.unit


def rates(rows: Iterable[Row]) -> dict[str, float]:
    """The best rate of each ceiling in rows of the suite "ceilings" (or the GPU script's "gpu-device"), by contender."""
    known = {contender({"what": row.what, "dtype": dtype}) for row in CEILINGS.values() for dtype in row.dtypes}
    found: dict[str, float] = {}
    for each in rows:
        name = each["contender"]
        if name in known and each.get("rate"):
            found[name] = max(each["rate"], found.get(name, 0.0))
    return found


def build(case: Mapping[str, Any]) -> Passes:
    """The call that is timed. Raises FastlocError for an unknown case, and what PyTorch raises where it does not fit."""
    call = _product(case) if _row(case).measure == "side" else _copy(case)
    return Passes(call, device=str(case["device"]).partition(":")[0], columns={"case": shape(case)})


def _product(case: Mapping[str, Any]) -> Call:
    torch = _torch(case)
    side, dtype = case["side"], getattr(torch, case["dtype"])
    # random: zeros run faster
    left, right = (torch.randn(side, side, device=case["device"]).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda index: torch.mm(left, right, out=out)


def _copy(case: Mapping[str, Any]) -> Call:
    torch = _torch(case)
    source, target = (torch.randint(0, 256, (case["bytes"],), dtype=torch.uint8, device=case["device"]) for _ in range(2))
    times = range(_repeats(case))

    def call(index: int) -> Any:
        for _ in times:
            target.copy_(source)
        return target

    return call


def _repeats(case: Mapping[str, Any]) -> int:
    return REPEATS if case["what"] == "cache copy" else 1


def _torch(case: Mapping[str, Any]) -> Any:
    """PyTorch with so many threads, and with float32 that is float32."""
    import torch

    torch.set_num_threads(case["threads"])
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch


def _row(case: Mapping[str, Any]) -> Ceiling:
    if case["what"] not in CEILINGS:
        raise FastlocError(unknown("ceiling", case["what"], CEILINGS))
    return CEILINGS[case["what"]]


def main() -> None:
    serve(build, {"python": python_version(), **packages(("torch",))})


if __name__ == "__main__":
    main()
