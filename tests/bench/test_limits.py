"""FLOPs and bytes counted from a plan are those of the pass that runs: every recipe, plan, batch and pooling."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import towers
from fastloc.bench.backends import official_gem
from fastloc.bench.peers.protocol import PROTOCOL
from fastloc.bench.roofline import ceilings, floor
from fastloc.checkpoints.vit_spec import from_open_clip
from fastloc.checkpoints.vit_weights import named_tensors
from fastloc.engine.plan import Plan, PlanRequest
from fastloc.engine.plan_options import choose
from fastloc.engine.vit_engine import Engine, Shape, Tower
from fastloc.errors import FastlocError, RecipeError
from fastloc.functional.attention import sides
from fastloc.functional.folding import crossed
from fastloc.recipes import RECIPES, Recipe, recipe

CPU = torch.device("cpu")
HIDDEN = 80
COUNTED = [name for name in towers.PATCHES if name not in floor.UNCOUNTED]
# they move nothing, though their schemas do not say so
VIEWS = (torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.new_empty)
QUICK = {"activation": "quick_gelu"}


class Seen(TorchDispatchMode):
    """Memory traffic of PyTorch's ops: parameters, each byte once, and bytes of all arguments and results."""

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        super().__init__()
        self.parameters = {each.untyped_storage().data_ptr() for each in parameters}
        self.read: dict[tuple[int, int], None] = {}
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket is not torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        found = func(*args, **(kwargs or {}))
        alias = func._schema.returns and func._schema.returns[0].alias_info
        if not (alias and not alias.is_write) and func._overloadpacket not in VIEWS:
            kept = {name: each for name, each in (kwargs or {}).items() if name != "out"}
            tensors = [each for each in torch.utils._pytree.tree_leaves((args, kept)) if isinstance(each, torch.Tensor)]
            for each in tensors:
                if each.untyped_storage().data_ptr() in self.parameters:
                    self.read[each.data_ptr(), distinct(each)] = None
            first = found[0] if isinstance(found, tuple) else found
            self.moved += sum(map(distinct, tensors)) + (distinct(first) if isinstance(first, torch.Tensor) else 0)
        return found

    @property
    def weights(self) -> int:
        """Bytes of parameters, wherever ops read the same ones."""
        total, end = 0, 0
        for start, count in sorted(self.read):
            total, end = total + max(start + count - max(start, end), 0), max(end, start + count)
        return total


def distinct(tensor: torch.Tensor) -> int:
    """Bytes without those that are broadcast."""
    count = tensor.element_size()
    for side, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= side if stride else 1
    return count


@dataclass(frozen=True)
class Setting:
    """One pass: its recipe, its plan, and what it is given."""

    recipe: Recipe
    settings: tuple[tuple[str, str], ...] = ()
    batch: int = 3
    grid: tuple[int, int] = (3, 5)
    texts: int = 2
    kind: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"

    def __str__(self) -> str:
        plan = " ".join(f"{name}={value}" for name, value in self.settings)
        kind = " ".join(f"{name}={value}" for name, value in self.kind)
        return f"{self.recipe.name} {self.recipe.iterations} b{self.batch} {self.grid} T={self.texts} {plan} {kind} {self.dtype}"


def passes() -> Iterator[Setting]:
    joint, slices = ("projection", "joint"), ("attention", "bmm")
    for row in (RECIPES[name] for name in COUNTED):
        for settings in ((), (joint,), (slices,), (joint, slices)):
            yield Setting(row, settings)
        yield Setting(row, batch=1, grid=(4, 4), texts=1)
        yield Setting(row, (("attention", "sdpa"),), dtype="bfloat16")
        if row.streams:
            yield Setting(row, (("schedule", "deferred"), joint), batch=1)
    mixed = recipe("pearl", terms=("kk", "procrustes", "identity"), blocks=2)
    yield Setting(mixed)
    yield Setting(mixed, (slices,), dtype="bfloat16")
    yield Setting(recipe("itaclip", terms=("procrustes",), cross_blocks=(1, 4)), batch=1)
    for iterations in (0, 2):
        yield Setting(recipe("gem", iterations=iterations))
        yield Setting(recipe("gem", iterations=iterations, inv_temp=20.0), (slices,))
    # with the image embedding, in the last block too
    for name in ("gem", "maskclip", "sclip", "itsm"):
        yield Setting(recipe(name, score="feature-surgery"))
        yield Setting(recipe(name, score="feature-surgery"), kind=(("pool", "avg"),))
    surgery = recipe("clip_surgery", terms=("vv", "qk", "identity"))
    yield Setting(surgery, kind=(("pool", "avg-norm"), ("scale", True)))
    yield Setting(surgery, (joint,), kind=(("ln_pre", False), *QUICK.items()))
    yield Setting(replace(RECIPES["gem"], blocks=7), (), texts=5, kind=tuple(QUICK.items()))


def engine(setting: Setting, dtype: str = "") -> tuple[Engine, Plan]:
    dtype = dtype or setting.dtype
    tower = Tower(towers.tower(torch.float32, **dict(setting.kind)), CPU, dtype)
    made = Engine(tower, setting.recipe, {"dtype": dtype, **dict(setting.settings)})
    return made, made.plan(setting.batch, size(setting))


def size(setting: Setting) -> tuple[int, int]:
    return setting.grid[0] * towers.PATCH, setting.grid[1] * towers.PATCH


def inputs(setting: Setting) -> tuple[torch.Tensor, ...]:
    words = towers.texts(setting.texts + 1).float()
    return towers.pixels(setting.batch, setting.grid, torch.float32), words[:-1], words[-1]


def counted(setting: Setting, run: Engine, plan: Plan) -> tuple[floor.Work, ...]:
    return floor.count(run.tower.weights.spec, setting.recipe, plan, setting.batch, size(setting), setting.texts, hidden=HIDDEN)


@pytest.mark.parametrize("setting", list(passes()), ids=str)
def test_a_pass_is_what_was_counted(setting: Setting) -> None:
    run, plan = engine(setting)
    works = counted(setting, run, plan)
    pixels, words, empty = inputs(setting)
    # tables are made once
    run(pixels, words, empty)
    with FlopCounterMode(display=False) as counter:
        run(pixels, words, empty)
    assert sum(each.flops for each in works) == counter.get_total_flops(), {each.name: each.flops for each in works}
    prepared = run.prepared(plan)
    table = run._passes(Shape(tuple(pixels.shape), pixels.dtype, None, False, len(words), plan)).places.table
    folded = [each for pair in (*prepared.local, prepared.joint, prepared.qv_rows) if pair is not None for each in pair]
    with torch.inference_mode(), Seen([*named_tensors(prepared.weights).values(), *folded, table]) as seen:
        run(pixels, words, empty)
    compare(works, seen, slices=plan.attention == "bmm")


def compare(works: tuple[floor.Work, ...], seen: Seen, slices: bool) -> None:
    """Parameters to the byte; traffic but for one number a head's vector and what a product copies of its operands."""
    assert sum(each.weights for each in works) == seen.weights
    share = sum(each.weights + each.read + each.written for each in works) / seen.moved
    assert (0.75 if slices else 0.95) < share < 1.001, share


@pytest.mark.parametrize(("depth", "iterations"), [(7, 1), (3, 0), (8, 2)])
@pytest.mark.parametrize("kind", [{}, {"scale": True, "activation": "quick_gelu"}, {"ln_pre": False, "activation": "gelu_tanh"}], ids=str)
def test_the_official_form_is_what_was_counted(depth: int, iterations: int, kind: dict[str, Any]) -> None:
    weights = towers.tower(torch.float32, **kind)
    words = towers.texts(3).float()
    for batch, grid in ((1, (4, 4)), (3, (4, 4)), (2, (3, 5))):
        pixels = towers.pixels(batch, grid, torch.float32)
        works = floor.official(weights.spec, batch, (pixels.shape[2], pixels.shape[3]), 3, depth, iterations, hidden=HIDDEN)
        with FlopCounterMode(display=False) as counter:
            official_gem.gem(weights, pixels, words, depth, iterations)
        assert sum(each.flops for each in works) == counter.get_total_flops()
        with torch.inference_mode(), Seen(list(named_tensors(weights).values())) as seen:
            official_gem.gem(weights, pixels, words, depth, iterations)
        compare(works, seen, slices=True)


KERNELS = {"attention": "triton", "norm": "triton", "activation": "triton", "readout": "triton"}


def test_what_is_not_counted_is_reported() -> None:
    anchors = {f"anchor_{term}" for term in ("qk", "vv", "qq", "kk")}
    gradients = {"grad_cam", "grad_cam_clip_es", "grad_cam_input", "bi_modal", "bi_modal_last", "legrad", "grad_eclip"}
    assert {*gradients, *anchors, "rollout", "cliper", "gem_matched", "sc_clip", "sfp"} == floor.UNCOUNTED
    for name in floor.UNCOUNTED:
        setting = Setting(RECIPES[name])
        with pytest.raises(RecipeError, match=f"the work of '{name}' is not counted"):
            counted(setting, *engine(setting))


@pytest.mark.parametrize("name", COUNTED)
def test_kernels_do_the_same_products_and_move_less(name: str) -> None:
    """Kernels, which run on GPUs alone, have the counts of the forms that can be looked into, but for the traffic that they save."""
    setting = Setting(RECIPES[name], (("projection", "joint"),), batch=8, grid=(28, 28), texts=4)
    run, plan = engine(setting, "float16")
    plain = {each.name: each for each in counted(setting, run, plan)}
    fused = {each.name: each for each in counted(setting, run, replace(plan, **KERNELS))}
    for each in plain.values():
        # cosines of half precision meet each text as two halves
        twice = 2 * setting.batch * 28 * 28 * 4 * towers.EMBED if each.name == "read-out" else 0
        assert fused.get(each.name, floor.Work(each.name, 0, 0, 0, 0)).flops == each.flops + twice, each.name
    assert sum(each.weights for each in plain.values()) == sum(each.weights for each in fused.values())
    moved = [sum(each.read + each.written for each in works.values()) for works in (plain, fused)]
    assert moved[1] < moved[0]
    if RECIPES[name].streams:
        vectors = 2 * setting.batch * 785 * 32
        row = RECIPES[name]
        count, letters = len(row.streams), {"v", *"".join(map(sides, row.streams))}
        # of one block: what the kernels read and write, and nothing else
        steps, blocks = row.iterations, row.blocks + (len(crossed(row, towers.LAYERS)) if row.cross_terms == "own" else 0)
        reads = (count * steps + count + 1 if steps else len(letters)) * vectors
        writes = count * steps * vectors + vectors * 784 // 785
        assert (fused["local attention"].read, fused["local attention"].written) == (blocks * reads, blocks * writes)


def test_what_a_vit_b_costs() -> None:
    """17.6 G multiplications for a ViT-B/16 at 224, as its papers and libraries say."""
    spec = from_open_clip({"embed_dim": 512, "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}})
    plan = choose(PlanRequest(CPU, spec, RECIPES["itsm"], 1, (224, 224)), {})
    found = floor.totals(floor.count(spec, RECIPES["itsm"], plan, 1, (224, 224), 4), spec, 1, (224, 224), 4)
    assert found.gflop / 2 == pytest.approx(17.6, rel=5e-3)
    # 86 million parameters, pixels, texts and grids, in float32
    assert found.moved_mb == pytest.approx(4 * 86.2 + 4 * (3 * 224**2 + 4 * 512 + 4 * 196) / 1e6, rel=2e-3)
    assert found.traffic_mb > found.moved_mb


def test_the_floor() -> None:
    rates = {"product float32": 2.0, "product float16": 100.0, "copy": 0.5}
    one = floor.Totals(gflop=10.0, moved_mb=100.0, traffic_mb=1000.0)
    assert floor.floor(one, "float32", rates) == (5.0, "products")
    assert floor.floor(one, "float16", rates) == (pytest.approx(0.2), "memory")
    assert floor.floor(one, "bfloat16", rates) is None and floor.floor(one, "float32", {"product float32": 2.0}) is None


def test_ceilings_are_rates_of_what_is_done() -> None:
    product = {"what": "product", "dtype": "float32", "device": "cpu", "threads": 1, "side": 1000}
    assert ceilings.rate(product, 10.0) == (pytest.approx(0.2), "TFLOP/s") and ceilings.contender(product) == "product float32"
    copy = {**product, "what": "copy", "dtype": "uint8", "bytes": 10**9}
    assert ceilings.rate(copy, 1.0) == (pytest.approx(2.0), "TB/s") and ceilings.contender(copy) == "copy"
    small = {**copy, "what": "cache copy"}
    assert ceilings.rate(small, 1.0)[0] == pytest.approx(2.0 * ceilings.REPEATS)
    rows = [{"contender": name, "rate": value} for name, value in (("copy", 1.0), ("copy", 3.0), ("copy", 2.0), ("gem_torch", 9.0))]
    assert ceilings.rates([*rows, {"contender": "product float32", "failed": "it did not fit"}]) == {"copy": 3.0}
    with pytest.raises(FastlocError, match="unknown ceiling 'cpy': did you mean 'copy'"):
        ceilings.build({**copy, "what": "cpy"})


def test_every_ceiling_has_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {ceilings.contender(each) for each in ceilings.cases("cuda:0")}
    assert names == {"product float32", "product float16", "product bfloat16", "copy", "cache copy"}
    # what a CPU has no instructions for is no ceiling
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert {each["dtype"] for each in ceilings.cases("cpu")} == {"float32", "bfloat16", "uint8"}


def test_the_worker_of_ceilings() -> None:
    command = [sys.executable, "-P", "-m", "fastloc.bench.roofline.ceilings"]
    cases = ceilings.cases("cpu", quick=True)
    asked: list[dict[str, Any]] = [{"do": "prepare", "key": "one", "case": case} for case in cases]
    asked += [{"do": "go", "key": "one", "what": "model", "count": 2}, {"do": "prepare", "key": "two", "case": {**cases[0], "what": "sum"}}]
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    output = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    hello, *replies = map(json.loads, output)
    assert hello["protocol"] == PROTOCOL and "torch" in hello["versions"]
    assert [each["told"]["case"] for each in replies[: len(cases)]] == [ceilings.shape(case) for case in cases]
    assert len(replies[-2]["ms"]) == 2 and all(ceilings.rate(cases[-1], ms)[0] > 0 for ms in replies[-2]["ms"])
    assert replies[-1]["failed"].startswith("FastlocError: unknown ceiling 'sum'")
