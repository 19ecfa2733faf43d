"""The plan: default choices, refusals with their reasons, and errors for an impossible request."""

import re
from dataclasses import FrozenInstanceError

import pytest
import torch

from fastloc.checkpoints import vit_spec
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine import plan_options, triton_ops
from fastloc.engine.plan import FIELDS, PlanRequest
from fastloc.engine.plan_options import OPTIONS, choose
from fastloc.errors import PlanError
from fastloc.kernels import device as kernels
from fastloc.recipes import RECIPES, recipe

VIT_B = ModelSpec(width=768, layers=12, heads=12, patch=(16, 16), image=(224, 224), embed=512, activation="quick_gelu")
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def request(device: torch.device = CPU, name: str = "gem", batch: int = 1, model: ModelSpec = VIT_B, **changes: object) -> PlanRequest:
    return PlanRequest(device, model, recipe(name, **changes), batch, (448, 448))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans for a GPU that is not there: only questions to the driver are answered for it."""
    monkeypatch.setattr(kernels, "why_not", lambda device: [] if device.type == "cuda" else ["the device is a CPU"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")


@pytest.fixture
def bare_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without Triton's interpreter and without bfloat16 of its own, as most are."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(plan_options, "native_bfloat16", lambda: False)


@pytest.mark.usefixtures("bare_cpu")
@pytest.mark.parametrize("name", RECIPES)
def test_on_a_cpu(name: str) -> None:
    plan = choose(request(name=name), {})
    assert (plan.dtype, plan.attention, plan.projection, plan.schedule) == ("float32", "sdpa", "per-block", "per-block")
    assert (plan.norm, plan.activation, plan.readout, plan.frames, plan.launch) == ("torch", "torch", "torch", "pillow", "eager")


def test_on_a_cpu_that_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_options, "native_bfloat16", lambda: True)
    assert choose(request(), {"dtype": "bfloat16"}).attention == "bmm"
    # what is less exact is not chosen unasked
    assert choose(request(), {}).dtype == "float32"
    assert choose(request(), {}).attention == "sdpa"


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu() -> None:
    plan = choose(request(GPU), {})
    assert (plan.dtype, plan.attention, plan.projection, plan.schedule) == ("float16", "triton", "joint", "side-stream")
    assert (plan.norm, plan.activation, plan.readout, plan.frames, plan.launch) == ("triton", "triton", "triton", "triton", "graph")
    assert choose(request(GPU, batch=8), {}).schedule == "per-block"


@pytest.mark.usefixtures("gpu")
def test_kernels_are_chosen_where_they_are_for_something() -> None:
    assert choose(request(GPU, "naclip"), {}).attention == "triton"
    assert choose(request(GPU, "clip_surgery"), {}).attention == "sdpa"
    assert choose(request(GPU, "clip_surgery"), {"attention": "triton"}).attention == "triton"
    for name in ("itsm", "maskclip"):
        plan = choose(request(GPU, name), {})
        assert plan.schedule == "per-block" and plan.attention == "sdpa"


@pytest.mark.usefixtures("gpu")
def test_shapes_that_kernels_refuse() -> None:
    narrow = ModelSpec(width=160, layers=12, heads=8, patch=(16, 16), image=(224, 224), embed=512)
    plan = choose(request(GPU, model=narrow), {"dtype": "float32"})
    assert plan.attention == "sdpa" and plan.activation == "torch"
    text = plan.explain()
    assert "not triton: " in text and "float32" in text and "the model's activation is gelu" in text
    with pytest.raises(PlanError, match=r"attention 'triton' is not possible here: .*self-self terms, and one of qk"):
        choose(request(GPU, terms=("qk",), iterations=0), {"attention": "triton"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lanch": "graph"}, "unknown plan field 'lanch': did you mean 'launch'?"),
        ({"attention": "flash"}, "unknown attention choice 'flash': known attention choices: triton, sdpa, bmm"),
        ({"launch": "graph"}, "launch 'graph' is not possible here: the device is cpu, and CUDA graphs need a CUDA GPU"),
        ({"schedule": "side-stream"}, "schedule 'side-stream' is not possible here: the device is cpu"),
        ({"attention": "triton"}, "attention 'triton' is not possible here: the device is a CPU, and Triton kernels are for CUDA GPUs"),
    ],
)
@pytest.mark.usefixtures("bare_cpu")
def test_asking_for_the_impossible(settings: dict[str, str], message: str) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        choose(request(), settings)


def test_deferred_needs_a_batch_of_one() -> None:
    assert choose(request(), {"schedule": "deferred"}).schedule == "deferred"
    with pytest.raises(PlanError, match="so the batch must be 1"):
        choose(request(batch=2), {"schedule": "deferred"})
    with pytest.raises(PlanError, match="the local path does not attend"):
        choose(request(name="maskclip"), {"schedule": "deferred"})


@pytest.mark.usefixtures("bare_cpu")
def test_a_plan_explains_every_field_and_every_refusal() -> None:
    plan = choose(request(), {"projection": "joint"})
    text = plan.explain()
    assert text.startswith("plan for gem, batch 1, 448 x 448 on cpu\n")
    assert [each.field for each in plan.decisions] == list(FIELDS)
    for decision in plan.decisions:
        assert decision.why and all(reason for _, reason in decision.refused), decision
        assert f"  {decision.field:<11}{decision.chosen:<12}{decision.why}" in text
        others = {option.name for option in OPTIONS[decision.field]} - {decision.chosen}
        assert others == {name for name, _ in decision.refused}
    assert "joint       as requested" in text
    assert "not graph: the device is cpu, and CUDA graphs need a CUDA GPU" in text


def test_plans_are_values() -> None:
    plan, same = choose(request(), {}), choose(request(batch=3), {})
    assert plan == same and hash(plan) == hash(same) and plan.title != same.title
    assert plan != choose(request(), {"projection": "joint"})
    with pytest.raises(FrozenInstanceError):
        plan.dtype = "float16"  # type: ignore[misc]


def test_why_not_answers_for_every_recipe() -> None:
    """The plan asks the ops themselves, with shapes alone."""
    for row in RECIPES.values():
        reasons = triton_ops.why_not_attention(VIT_B, row, 785, torch.float16)
        assert bool(reasons) == (not row.streams or row.inv_temp == "matched"), (row.name, reasons)
    assert not triton_ops.why_not_norm(VIT_B, torch.float16) and not triton_ops.why_not_readout(VIT_B, "softmax", torch.bfloat16)
    assert triton_ops.why_not_readout(VIT_B, "softmax-input", torch.float16) == ["maps of order 'softmax-input' have no kernel"]
    assert not triton_ops.why_not_activation(VIT_B, torch.float16)
    assert "gelu" in triton_ops.why_not_activation(vit_spec.ModelSpec(768, 12, 12, (16, 16), (224, 224), 512), torch.float16)[0]
