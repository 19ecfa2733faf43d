"""Variants of kernels are off by default, change what they say and pass the gate of the shipped kernels."""

import sys
from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None or sys.platform != "linux":
    pytest.skip("triton is not installed", allow_module_level=True)

from fastloc.kernels import variants
from fastloc.kernels.gate import Case, check
from fastloc.kernels.table import Op

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TRIED = [
    pytest.param(name, op, case, id=f"{name}-{op.name}-{case.label}")
    for name in variants.VARIANTS
    if not variants.why_not(name, DEVICE)
    # the interpreter takes a second a case, and none of these is on by default: every other one
    for op, case in variants.cases(name)[:: 1 if DEVICE.type == "cuda" else 2]
    if not case.large or DEVICE.type == "cuda"
]


def test_switches_hold_inside_only() -> None:
    assert not any(variants.on(name) for name in variants.VARIANTS)
    with variants.using("polynomial_half"):
        with variants.using("tensor_descriptors"):
            assert variants.on("polynomial_half") and variants.on("tensor_descriptors")
        assert not variants.on("tensor_descriptors")
    assert not variants.on("polynomial_half")
    with pytest.raises(KeyError), variants.using("no such variant"):
        pass


@pytest.mark.slow("cases of every variant in the interpreter")
@pytest.mark.parametrize(("name", "op", "case"), TRIED)
def test_a_variant_passes_the_gate_in_half_precision(name: str, op: Op, case: Case) -> None:
    if name == "fp8_scores" and op.name == "self_self_step" and DEVICE.type == "cpu":
        pytest.skip("Triton's interpreter rounds to float8_e4m3fn wrongly, see test_fp8_scores")
    with variants.using(name):
        verdict = check(op, case, torch.float16, DEVICE)
    assert verdict.good, verdict


def test_the_polynomial_is_as_near_as_it_says() -> None:
    """The steps of `tiles.exp2_polynomial` in float32, against 2**x in float64."""
    from fastloc.kernels.tiles import _CUBIC, _LARGE, _LINEAR, _ONE, _SQUARE

    x = torch.cat([torch.linspace(-125, 0, 400_001), torch.arange(-125.0, 1.0), torch.arange(-124.5, 0.0)])
    large = x + _LARGE.value
    rest = x - (large - _LARGE.value)
    power = ((_CUBIC.value * rest + _SQUARE.value) * rest + _LINEAR.value) * rest + _ONE.value
    found = (power.view(torch.int32) + (large.view(torch.int32) << 23)).view(torch.float32)
    assert float((found.double() / torch.exp2(x.double()) - 1).abs().max()) < 7.6e-5


def test_a_variant_names_the_gpus_that_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    capability = {"now": (9, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability["now"])
    gpu = torch.device("cuda", 0)
    assert variants.why_not("three_accumulators", gpu) == []
    (reason,) = variants.why_not("warp_specialised", gpu)
    assert "warp_specialised must be 10.0" in reason and "got 9.0" in reason
    capability["now"] = (10, 0)
    assert variants.why_not("warp_specialised", gpu) == []
