"""The plan's options, in order of preference. A reason that rests on a prediction states that."""

from collections.abc import Callable, Mapping
from typing import cast

import torch

from fastloc.checkpoints.resnet_spec import ResNetSpec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine import triton_ops
from fastloc.engine.plan import DTYPES, Chosen, Plan, PlanOption, PlanRequest, Reasons, make_plan
from fastloc.kernels import device as kernels
from fastloc.recipes import Recipe

# up to this batch one block's attention leaves part of the GPU idle
SMALL_BATCH = 2


def choose(request: PlanRequest, settings: Mapping[str, str]) -> Plan:
    """The plan for a request; `settings` overrides fields by name. Raises PlanError, see `make_plan`."""
    return make_plan(request, settings, OPTIONS)


def choose_resnet(
    device: torch.device, spec: ResNetSpec, recipe: Recipe, batch: int, size: tuple[int, int], settings: Mapping[str, str]
) -> Plan:
    """The plan of a CLIP ResNet: one option for fields that only transformers choose, the shared options for the rest.

    size is (height, width). Raises PlanError, see `make_plan`.
    """
    # the options of `RESNET_OPTIONS` read what both kinds of spec have
    return make_plan(PlanRequest(device, cast(ModelSpec, spec), recipe, batch, size), settings, RESNET_OPTIONS)


def native_bfloat16() -> bool:
    """True if this machine's CPU multiplies bfloat16 matrices natively, as far as PyTorch reports."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(each) for each in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))


def _if(condition: Callable[[PlanRequest, Chosen], bool], reason: str) -> Reasons:
    return lambda request, chosen: [reason] if condition(request, chosen) else []


def _all(*reasons: Reasons) -> Reasons:
    return lambda request, chosen: [each for part in reasons for each in part(request, chosen)]


def _needs_cuda(what: str) -> Reasons:
    return lambda request, chosen: [] if request.cuda else [f"the device is {request.device}, and {what} need a CUDA GPU"]


def _kernels(shapes: Callable[[ModelSpec, torch.dtype], list[str]] | None = None) -> Reasons:
    """The reasons why Triton kernels cannot run: the device's, or else the op's own."""

    def reasons(request: PlanRequest, chosen: Chosen) -> list[str]:
        found = kernels.why_not(request.device)
        return found if found or shapes is None else shapes(request.spec, DTYPES[chosen["dtype"]])

    return reasons


def _attention_kernels(request: PlanRequest, chosen: Chosen) -> list[str]:
    found = kernels.why_not(request.device)
    return found or triton_ops.why_not_attention(request.spec, request.recipe, request.tokens, DTYPES[chosen["dtype"]])


def _readout_kernels(request: PlanRequest, chosen: Chosen) -> list[str]:
    found = kernels.why_not(request.device)
    return found or triton_ops.why_not_readout(request.spec, request.recipe.readout.order, DTYPES[chosen["dtype"]])


def _on_cpu(request: PlanRequest, chosen: Chosen) -> bool:
    return not request.cuda


def _attends(request: PlanRequest, chosen: Chosen) -> bool:
    return bool(request.recipe.streams)


def _half_on_native_cpu(request: PlanRequest, chosen: Chosen) -> bool:
    return _on_cpu(request, chosen) and chosen["dtype"] == "bfloat16" and native_bfloat16()


_INTERPRETER = _if(_on_cpu, "on a CPU Triton only has its interpreter, which is for tests")
_NOT_ATTENDING = _if(lambda s, c: not _attends(s, c), "the local path does not attend")

OPTIONS: dict[str, tuple[PlanOption, ...]] = {
    "dtype": (
        PlanOption("float16", "tensor cores; norms, temperatures, sums and cosines stay float32",
               unwise=_if(_on_cpu, "CPUs are slower in it than in float32")),
        PlanOption("float32", "the quickest that every CPU has; bfloat16 is quicker on CPUs that multiply in it, and less exact"),
        PlanOption("bfloat16", "as requested", unwise=_if(lambda s, c: True, "it keeps 8 bits of every number where float16 keeps 11")),
        PlanOption("float64", "as requested", unwise=_if(lambda s, c: True, "it is for comparing methods, not for speed")),
    ),
    "attention": (
        PlanOption("triton", "self-self kernels: no maximum to find, normalisation in the exponent, bias computed where it is used",
               impossible=_attention_kernels, unwise=_all(_INTERPRETER, _if(
                   lambda s, c: not s.recipe.unit and s.recipe.bias_std is None,
                   "without unit vectors or a bias PyTorch's flash attention does the same work (predicted to be as quick)"))),
        PlanOption("sdpa", "PyTorch's fused attention, streams stacked on the head axis; no N x N map in memory",
               unwise=_if(_half_on_native_cpu, "in bfloat16 this CPU's matrix products are quicker (predicted)")),
        PlanOption("bmm", "bfloat16 matrix products of this CPU, logits in slices",
               unwise=_if(lambda s, c: not _half_on_native_cpu(s, c), "it writes every logit to memory")),
    ),
    "projection": (
        PlanOption("joint", "the terms of all changed blocks side by side, one product, summed in float32",
               impossible=_if(lambda s, c: s.spec.norm == "post", "each block's term passes a LayerNorm of its own (post-norm)"),
               unwise=_all(_if(_on_cpu, "on a CPU it is no quicker (measured) and holds all terms at once"),
                           _if(lambda s, c: s.recipe.blocks < 2, "the recipe changes fewer than two blocks"))),
        PlanOption("per-block", "each changed block's term is projected and added at once"),
    ),
    "schedule": (
        PlanOption("side-stream", "the local path runs beside the main path, which leaves much of the GPU idle at this batch",
               impossible=_all(_needs_cuda("streams"), _NOT_ATTENDING,
                               _if(lambda s, c: c["projection"] != "joint", "it needs the joint projection")),
               unwise=_if(lambda s, c: s.batch > SMALL_BATCH, "at this batch one block's attention fills the GPU (predicted)")),
        PlanOption("per-block", "each changed block attends at once, while its projections are in the cache"),
        PlanOption("deferred", "all changed blocks attend in one call at the end",
               impossible=_all(_NOT_ATTENDING, _if(lambda s, c: s.batch != 1, "blocks take the batch's place, so the batch must be 1"))),
    ),
    "norm": (
        PlanOption("triton", "residual sum, LayerNorm and token lengths in one pass",
               impossible=_kernels(triton_ops.why_not_norm), unwise=_INTERPRETER),
        PlanOption("torch", "PyTorch's own kernels"),
    ),
    "activation": (
        PlanOption("triton", "QuickGELU in one pass, in place", impossible=_kernels(triton_ops.why_not_activation), unwise=_INTERPRETER),
        PlanOption("torch", "PyTorch's own kernels"),
    ),
    "readout": (
        PlanOption("triton", "normalisation and cosines in one pass; maps with their exact range known before they are drawn",
               impossible=_readout_kernels, unwise=_INTERPRETER),
        PlanOption("torch", "PyTorch's own kernels"),
    ),
    "frames": (
        PlanOption("triton", "resized on the device, bit for bit as Pillow does", impossible=_kernels(), unwise=_INTERPRETER),
        PlanOption("pillow", "resized by Pillow, on the CPU where the picture is", unwise=_if(
            lambda s, c: s.cuda, "frames on the device would have to come back to the host")),
        PlanOption("torch", "resized by PyTorch on the device, bit for bit as Pillow does"),
    ),
    "launch": (
        PlanOption("graph", "captured once for each shape, then replayed without the host", impossible=_needs_cuda("CUDA graphs")),
        PlanOption("eager", "every op is started by the host"),
    ),
}  # fmt: skip

_ONE_POOL = "a ResNet has one attention, its pool's"

# fields that a ResNet shares with transformers, whose options ask for device, dtype, batch and embedding width alone
SHARED = ("dtype", "readout", "frames", "launch")
RESNET_OPTIONS = {
    **{name: OPTIONS[name] for name in SHARED},
    "attention": (PlanOption("sdpa", f"{_ONE_POOL}: PyTorch's fused attention"),),
    "projection": (PlanOption("per-block", _ONE_POOL),),
    "schedule": (PlanOption("per-block", _ONE_POOL),),
    "norm": (PlanOption("torch", "BatchNorm is folded into the convolutions"),),
    "activation": (PlanOption("torch", "ReLU is one kernel of PyTorch's already"),),
}
