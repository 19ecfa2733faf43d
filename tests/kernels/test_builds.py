"""Every kernel that is shipped compiles for GPUs that are not here, and the compile gate sees what is not fit to ship."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

import compile_kernels
from fastloc.kernels.variants import VARIANTS, refusals
from repo import REPO

pytestmark = pytest.mark.skipif(find_spec("triton") is None or sys.platform != "linux", reason="triton is not installed")

TOYS = """
import torch, triton, triton.language as tl
from fastloc.kernels.compile_gate import broken_rules, compile_build, key, specialise
from fastloc.kernels.launch import empty, launch, recording

@triton.jit
def products(x, y, bias, out, N, one, scale, BLOCK: tl.constexpr, D: tl.constexpr, PRECISION: tl.constexpr):
    rows, columns = tl.arange(0, BLOCK), tl.arange(0, D)
    if PRECISION == "ieee":
        found = tl.dot(tl.load(x + rows[:, None] * D + columns).to(tl.float32), tl.load(y + columns[:, None] * BLOCK + rows).to(tl.float32),
                       input_precision="ieee")
    else:
        found = tl.dot(tl.load(x + rows[:, None] * D + columns), tl.load(y + columns[:, None] * BLOCK + rows))
    found = tl.exp2(found * scale)
    if bias is not None:
        found += tl.load(bias + rows)
    tl.store(out + rows[:, None] * N * one + rows, found.to(out.dtype.element_ty), mask=rows[:, None] < N)

def recorded(block, num_warps, offset=0, n=64, bias=None, precision="tf32"):
    x = torch.empty(offset + block * 64, dtype=torch.float16, device="meta")[offset:]
    with recording() as builds:
        launch(products, (1,), x, x, bias, empty((block, n), x.dtype, x.device), n, 1, 2.0, num_warps=num_warps, num_stages=1,
               BLOCK=block, D=64, PRECISION=precision)
    return builds[0]
"""


def toys(code: str, folder: Path) -> None:
    """Run the code after the toy kernel's, in a new Python that does not interpret kernels."""
    script = folder / "toys.py"
    script.write_text(TOYS + code)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_arguments_become_types_as_at_run_time(tmp_path: Path) -> None:
    code = """
signature, constants, attributes, options = specialise(recorded(64, 4), 90)
types = {"x": "*fp16", "bias": "constexpr", "N": "i32", "one": "constexpr", "scale": "fp32", "D": "constexpr"}
assert types.items() <= signature.items(), signature
assert constants == {(2,): None, (5,): 1, (7,): 64, (8,): 64, (9,): "tf32"}, constants
assert {place for place, found in attributes.items() if found} == {(0,), (1,), (3,), (4,)}, attributes
assert options.num_warps == 4 and options.num_stages == 1 and options.enable_fp_fusion
noted = lambda **more: {place for place, found in specialise(recorded(64, 4, **more), 90)[2].items() if found}
# the output is an allocation of its own, and so aligned whatever the operands are
assert noted(offset=4) == {(3,), (4,)} and noted(offset=8) == {(0,), (1,), (3,), (4,)} and noted(n=65) == {(0,), (1,), (3,)}
assert key(recorded(64, 4), 90) == key(recorded(64, 4, n=128), 90) != key(recorded(64, 4, n=65), 90)
assert len({key(recorded(64, 4), 90), key(recorded(64, 4), 80), key(recorded(64, 8), 90), key(recorded(32, 4), 90),
            key(recorded(64, 4, offset=1), 90), key(recorded(64, 4, bias=torch.empty(64, device="meta")), 90)}) == 6
"""
    toys(code, tmp_path)


@pytest.mark.slow("compiles kernels")
def test_what_is_not_fit_to_ship_is_caught(tmp_path: Path) -> None:
    code = """
for sm, mma in ((80, "HMMA"), (89, "HMMA"), (90, "HGMMA")):
    found = compile_build(recorded(64, 4), sm)
    assert found.mma == mma and found.mma_count and found.dots == 1 and found.ex2 and found.registers > 16 and found.shared, found
    assert found.instructions > found.mma_count + found.ex2 and not found.spill_stores + found.spill_loads, found
    assert not broken_rules(found, sm, attention=True), broken_rules(found, sm, attention=True)
# blocks of 32 rows are too small for wgmma
small = compile_build(recorded(32, 4), 90)
assert not broken_rules(small, 90) and "must be HGMMA" in broken_rules(small, 90, attention=True)[0], small
spilling = compile_build(recorded(128, 1), 80)
assert spilling.spill_stores and spilling.spill_loads and spilling.stack, spilling
assert "spills" in broken_rules(spilling, 80)[0]
full = compile_build(recorded(32, 4, precision="ieee"), 80)
assert full.dots == 0 and not full.mma and not broken_rules(full, 80), full
from dataclasses import replace
assert "dots must use tensor core instructions" in broken_rules(replace(full, dots=1), 80)[0]
assert "shared memory must be at most 101376 bytes" in broken_rules(replace(full, shared=100 << 10), 89)[0]
assert not broken_rules(replace(full, shared=100 << 10), 90)
# the fp8 scores of a variant are products of warpgroups too
mixed = replace(small, mma="HGMMA+QGMMA")
assert not broken_rules(mixed, 90, attention=True) and broken_rules(replace(small, mma="HGMMA+HMMA"), 90, attention=True)
"""
    toys(code, tmp_path)


def test_a_record_that_differs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    start = {"op": "add_norm", "head_width": None}
    rows = [
        {**start, "sm": 80, "registers": 40},
        {**start, "sm": 90, "registers": 32},
        {**start, "head_width": 64, "sm": 90, "registers": 99},
    ]
    gone = {**start, "op": "an op that was taken out", "sm": 90}
    monkeypatch.setattr(compile_kernels, "RECORD", tmp_path / "builds.json")
    assert "there is no builds.json" in compile_kernels.differences(rows, ["add_norm"], [64], [80, 90])[0]
    compile_kernels.RECORD.write_text(compile_kernels.written(rows))
    assert not compile_kernels.differences(rows, ["add_norm"], [64], [80, 90])
    assert not compile_kernels.differences(rows[1:2], ["add_norm"], [72], [90])
    found = compile_kernels.differences([rows[0] | {"registers": 41}, *rows[1:]], ["add_norm"], [64], [80, 90])
    assert [line.partition(":")[0] for line in found[:2]] == ["only in the record", "not in the record"], found
    assert found[2] == "builds.json is out of date; make it again with python benchmarks/compile_kernels.py"
    compile_kernels.RECORD.write_text(compile_kernels.written([*rows, gone]))
    assert "an op that was taken out" in compile_kernels.differences(rows, ["add_norm"], [64], [80, 90])[0]
    # another Triton makes other machine code, and only the rules hold for it
    compile_kernels.RECORD.write_text(compile_kernels.written([]).replace(version("triton"), "1.0"))
    assert not compile_kernels.differences(rows, ["add_norm"], [64], [80, 90]) and "only the rules" in capsys.readouterr().out


def test_every_variant_compiles_for_the_gpus_that_it_is_for() -> None:
    rows = json.loads((REPO / "benchmarks" / "records" / "kernel_builds.json").read_text(encoding="utf-8"))["builds"]
    for name, variant in VARIANTS.items():
        # a variant that is an op of its own stands among the ops
        mine = [row for row in rows if name in (row.get("variant"), row["op"])]
        assert {row["sm"] for row in mine} == {sm for sm in compile_kernels.TRIED if not refusals(name, divmod(sm, 10))}, name
        assert {row["op"] for row in mine} == {op.name for op in variant.ops}, name
        assert not [row for row in mine if row.get("failed") or (row["sm"] in compile_kernels.JUDGED and row["spill_stores"])], name
    # the one that no judged GPU runs, and why
    unjudged = {name for name in VARIANTS if all(refusals(name, divmod(sm, 10)) for sm in compile_kernels.JUDGED)}
    assert unjudged == {"warp_specialised"} and "fails in a pass with 4" in VARIANTS["warp_specialised"].changes


def check(*part: str) -> None:
    command = [sys.executable, str(REPO / "benchmarks" / "compile_kernels.py"), "--check", *part]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# everything takes a quarter of an hour (`make kernels` does it, for who changes a kernel), so a test compiles all of Hopper, and
# for the older GPUs the ops with dots at the commonest head width
@pytest.mark.slow("compiles most kernels")
@pytest.mark.parametrize("part", ["--sm 90", "--sm 80 89 --head-widths 64 --ops self_self_step self_self_ensemble self_attention cosine"])
def test_shipped_kernels_compile_as_recorded(part: str) -> None:
    check(*part.split())
