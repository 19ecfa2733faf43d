"""The plan's options, in order of preference. A reason that rests on a prediction says so."""

from collections.abc import Callable, Mapping

import torch

from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine import triton_ops
from fastloc.engine.plan import DTYPES, Chosen, Option, Plan, Reasons, Situation, make_plan
from fastloc.kernels import device as kernels

# up to this batch one block's attention leaves part of the GPU idle
SMALL_BATCH = 2


def choose(situation: Situation, settings: Mapping[str, str]) -> Plan:
    """The plan for a situation; `settings` overrides fields by name. Raises PlanError, see `make_plan`."""
    return make_plan(situation, settings, OPTIONS)


def native_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 matrices itself, as far as PyTorch tells."""
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(told.get(each) for each in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))


def _if(condition: Callable[[Situation, Chosen], bool], reason: str) -> Reasons:
    return lambda situation, chosen: [reason] if condition(situation, chosen) else []


def _all(*reasons: Reasons) -> Reasons:
    return lambda situation, chosen: [each for part in reasons for each in part(situation, chosen)]


def _needs_cuda(what: str) -> Reasons:
    return lambda situation, chosen: [] if situation.cuda else [f"the device is {situation.device}, and {what} need a CUDA GPU"]


def _kernels(shapes: Callable[[ModelSpec, torch.dtype], list[str]] | None = None) -> Reasons:
    """Why Triton kernels cannot run: the device's reasons, or else the op's own."""

    def reasons(situation: Situation, chosen: Chosen) -> list[str]:
        found = kernels.why_not(situation.device)
        return found if found or shapes is None else shapes(situation.spec, DTYPES[chosen["dtype"]])

    return reasons


def _attention_kernels(situation: Situation, chosen: Chosen) -> list[str]:
    found = kernels.why_not(situation.device)
    return found or triton_ops.why_not_attention(situation.spec, situation.recipe, situation.tokens, DTYPES[chosen["dtype"]])


def _on_cpu(situation: Situation, chosen: Chosen) -> bool:
    return not situation.cuda


def _attends(situation: Situation, chosen: Chosen) -> bool:
    return bool(situation.recipe.streams)


def _half_on_native_cpu(situation: Situation, chosen: Chosen) -> bool:
    return _on_cpu(situation, chosen) and chosen["dtype"] == "bfloat16" and native_bfloat16()


_INTERPRETER = _if(_on_cpu, "on a CPU Triton only has its interpreter, which is for tests")
_NOT_ATTENDING = _if(lambda s, c: not _attends(s, c), "the local path does not attend")

OPTIONS: dict[str, tuple[Option, ...]] = {
    "dtype": (
        Option("float16", "tensor cores; norms, temperatures, sums and cosines stay float32",
               unwise=_if(_on_cpu, "CPUs are slower in it than in float32")),
        Option("float32", "the quickest that every CPU has; bfloat16 is quicker on CPUs that multiply in it, and less exact"),
        Option("bfloat16", "as asked for", unwise=_if(lambda s, c: True, "it keeps 8 bits of every number where float16 keeps 11")),
        Option("float64", "as asked for", unwise=_if(lambda s, c: True, "it is for comparing methods, not for speed")),
    ),
    "attention": (
        Option("triton", "self-self kernels: no maximum to find, normalisation in the exponent, bias computed where it is used",
               impossible=_attention_kernels, unwise=_all(_INTERPRETER, _if(
                   lambda s, c: not s.recipe.unit and s.recipe.bias_std is None,
                   "without unit vectors or a bias PyTorch's flash attention does the same work (predicted to be as quick)"))),
        Option("sdpa", "PyTorch's fused attention, streams stacked on the head axis; no N x N map in memory",
               unwise=_if(_half_on_native_cpu, "in bfloat16 this CPU's matrix products are quicker (predicted)")),
        Option("bmm", "bfloat16 matrix products of this CPU, logits in slices",
               unwise=_if(lambda s, c: not _half_on_native_cpu(s, c), "it writes every logit to memory")),
    ),
    "projection": (
        Option("joint", "the terms of all changed blocks side by side, one product, summed in float32",
               unwise=_all(_if(_on_cpu, "on a CPU it is no quicker (measured) and holds all terms at once"),
                           _if(lambda s, c: s.recipe.blocks < 2, "the recipe changes fewer than two blocks"))),
        Option("per-block", "each changed block's term is projected and added at once"),
    ),
    "schedule": (
        Option("side-stream", "the local path runs beside the main path, which leaves much of the GPU idle at this batch",
               impossible=_all(_needs_cuda("streams"), _NOT_ATTENDING,
                               _if(lambda s, c: c["projection"] != "joint", "it needs the joint projection")),
               unwise=_if(lambda s, c: s.batch > SMALL_BATCH, "at this batch one block's attention fills the GPU (predicted)")),
        Option("per-block", "each changed block attends at once, while its projections are in the cache"),
        Option("deferred", "all changed blocks attend in one call at the end",
               impossible=_all(_NOT_ATTENDING, _if(lambda s, c: s.batch != 1, "blocks take the batch's place, so the batch must be 1"))),
    ),
    "norm": (
        Option("triton", "residual sum, LayerNorm and token lengths in one pass",
               impossible=_kernels(triton_ops.why_not_norm), unwise=_INTERPRETER),
        Option("torch", "PyTorch's own kernels"),
    ),
    "activation": (
        Option("triton", "QuickGELU in one pass, in place", impossible=_kernels(triton_ops.why_not_activation), unwise=_INTERPRETER),
        Option("torch", "PyTorch's own kernels"),
    ),
    "readout": (
        Option("triton", "normalisation and cosines in one pass; maps with their exact range known before they are drawn",
               impossible=_kernels(triton_ops.why_not_readout), unwise=_INTERPRETER),
        Option("torch", "PyTorch's own kernels"),
    ),
    "frames": (
        Option("triton", "resized on the device, bit for bit as Pillow does", impossible=_kernels(), unwise=_INTERPRETER),
        Option("pillow", "resized by Pillow, on the CPU where the picture is", unwise=_if(
            lambda s, c: s.cuda, "frames on the device would have to come back to the host")),
        Option("torch", "resized by PyTorch on the device, bit for bit as Pillow does"),
    ),
    "launch": (
        Option("graph", "captured once for each shape, then replayed without the host", impossible=_needs_cuda("CUDA graphs")),
        Option("eager", "every op is started by the host"),
    ),
}  # fmt: skip
