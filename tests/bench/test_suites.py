"""The groups of contenders of each suite; nothing is started."""

from pathlib import Path
from typing import Any

import pytest

from fastloc.bench import contenders, correctness_gate, suites
from fastloc.bench.cases import Case
from fastloc.bench.models import model
from fastloc.bench.peer_table import PEERS, why_not
from fastloc.bench.request import Request
from fastloc.bench.roofline import floor
from fastloc.bench.run_context import Work
from fastloc.bench.session import Group
from fastloc.bench.waterfall import STEPS
from fastloc.recipes import RECIPES

USUAL: dict[str, Any] = {
    "models": (model("embedded"),), "methods": ("gem",), "backends": ("torch",), "peers": (), "suites": (), "sizes": (48,), "batches": (1,),
    "texts": 4, "dtype": "float32", "device": "cpu", "threads": 1, "seconds": 1.0, "out": Path(),
}  # fmt: skip


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 GB, whatever this one has."""
    monkeypatch.setattr(correctness_gate, "available", lambda: 64e9)


def groups(suite: str, **changed: Any) -> list[Group]:
    with Work(Request(**(USUAL | changed)), "20260101-000000") as work:
        work.rates = {"product float32": 0.1, "copy": 0.02}
        found = list(suites.SUITES[suite].groups(work))
        # nothing was started to list them
        assert not work.workers
        return found


def labels(group: Group) -> list[str]:
    return [each.label for each in group.contenders]


def test_methods_are_measured_beside_the_encoder_as_published_and_as_recommended(plenty: None) -> None:
    found = groups("methods", methods=tuple(RECIPES), sizes=(), backends=("torch", "ort"))
    recommended = model("embedded").recommended["recipes"]
    assert len(found) == len(RECIPES) + len(recommended)
    for group in found:
        assert labels(group) == ["encoder", "torch", "ort"] and list(group.against) == ["encoder"]
        encoder, ours, _ = (each.row for each in group.contenders)
        assert encoder["method"] == "itsm" and encoder["changes"] is None and (ours["method"] in floor.UNCOUNTED or ours["gflop"] > 0)
        assert (ours["method"] in floor.UNCOUNTED) == ("floor_ms" not in ours)
        assert ours["height"] == 96 and ours["tokens"] == 145 and ours["weights"] == "trained"
    gem, better = (group.contenders[1].row for group in found if group.name.endswith((", gem", ", gem (recommended)")))
    assert gem["quality"]["pointing"] < better["quality"]["pointing"] and better["changes"] == recommended["gem"]
    # at another size the record of the quality set says nothing
    assert all(each.row["quality"] is None for group in groups("methods") for each in group.contenders)


@pytest.mark.parametrize("name", ["PE-Core-B-16", "coca_ViT-B-32", "ViT-B-16-SigLIP", "EVA02-B-16", "MobileCLIP2-B"])
def test_other_families_have_facts_of_their_own_and_no_official_form(name: str) -> None:
    pytest.importorskip("open_clip")
    one = model(name)
    spec = one.spec
    case = Case(one.name, one.config, "", "gem", (one.size, one.size), "", preprocess=one.preprocess)
    assert case.patch == spec.patch[0] and case.tokens == spec.prefix + (one.size // case.patch) ** 2
    assert contenders.beyond_official(spec) == "the official form is of CLIP's own ViTs, and this tower has other parts"
    assert f"it is run on open_clip's own ViTs with a class token, and {name} is not one" in why_not(PEERS["gem_torch"], case)


def test_embeddings_are_in_every_group_if_asked_for(plenty: None) -> None:
    pytest.importorskip("open_clip")
    assert contenders.beyond_official(model("ViT-B-16").spec) == ""
    for group in groups("methods", methods=("itsm", "gem"), backends=("torch", "open_clip", "embedding")):
        assert labels(group) == ["encoder", "open_clip", "embedding", "torch"] and list(group.against) == ["encoder", "open_clip"]
        for each in group.contenders[1:3]:
            assert each.check == "encoder" and each.row["method"] == "encoder" and "floor_ms" not in each.row


def test_a_compiled_peer_has_a_process_and_a_row_of_its_own(plenty: None) -> None:
    found = groups("peers", models=(model("ViT-B-16@32"),), sizes=(), batches=(1, 2), peers=("gem_torch", "open_clip", "legrad"))
    assert [group.name for group in found] == ["ViT-B-16 32 px, peers", "ViT-B-16 32 px batch 2, peers"]
    names = ["gem_torch", "gem_torch compiled", "open_clip", "open_clip compiled", "legrad"]
    for group in found:
        assert labels(group) == ["encoder", "torch", *names] and list(group.against) == ["encoder", *names]
    checks = {each.label: each.check for each in found[0].contenders}
    assert checks["gem_torch"] == "grids" and checks["open_clip"] == "encoder" and checks["legrad"] == "grids"
    assert found[1].contenders[-1].failed == "it takes one of batch a call, not 2" and not found[0].contenders[-1].failed


def test_the_official_form_is_measured_until_it_does_not_fit(plenty: None) -> None:
    found = groups("tokens", models=(model("ViT-B-16"),), sizes=(32, 64))
    assert [labels(group) for group in found] == [["encoder", "torch", "official"]] * 2 + [["official"]]
    last = found[-1].contenders[0]
    needed = contenders.official_bytes(last.case)
    assert last.failed.startswith("does not fit: its N x N maps would take about ") and last.row["needs_mb"] == needed / 1e6
    assert needed > contenders.SHARE * 64e9 and last.case.size[0] % 16 == 0 and not found[1].contenders[2].failed
    # the package itself, where it was asked for
    beside = groups("tokens", models=(model("ViT-B-16"),), sizes=(32,), peers=("gem_torch", "legrad"))
    assert [labels(group) for group in beside] == [["encoder", "torch", "gem_torch"], ["gem_torch"]]
    assert not beside[0].whole and beside[0].least == suites.FEW


def test_who_needs_more_memory_than_there_is_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correctness_gate, "available", lambda: 1e6)
    official = groups("tokens", sizes=(96,))[0].contenders[2]
    assert official.label == "official" and "0.0 GB are free" in official.failed and official.row["needs_mb"] > 0
    assert len(groups("tokens", sizes=(96,))) == 1


@pytest.mark.parametrize(("suite", "name", "values"), [
    ("batch", "batch", [1, 2, 4, 8, 16, 32]), ("texts", "texts", [1, 10, 100, 1000]), ("blocks", "changes", [1, 2, 4, 6]),
])  # fmt: skip
def test_an_axis_varies_one_thing(suite: str, name: str, values: list[int], plenty: None) -> None:
    rows = [group.contenders[1].row for group in groups(suite, sizes=(16,))]
    assert [row[name]["blocks"] if name == "changes" else row[name] for row in rows] == values
    assert {(row["height"], row["method"]) for row in rows} == {(16, "gem")}


def test_the_waterfall_and_the_plan_have_steps(plenty: None) -> None:
    [fall] = groups("waterfall")
    assert [each.row["step"] for each in fall.contenders] == labels(fall) == [step.name for step in STEPS["cpu"]]
    assert list(fall.against) == ["official form"] and fall.contenders[-1].precision == fall.contenders[-1].row["dtype"] == "int8-dynamic"
    [plan] = groups("plan")
    # with Triton's interpreter, which the tests may have, there are more
    plain = [each for each in labels(plan) if "triton" not in each]
    assert plain == ["default plan", "attention=bmm", "projection=joint", "schedule=deferred"]
    assert plan.contenders[1].case.settings == {"attention": "bmm"} and "gflop" in plan.contenders[1].row


def test_the_scaling_suites_leave_the_embedded_model_out(plenty: None) -> None:
    both = (model("ViT-B-32"), model("embedded"))
    assert {group.contenders[0].row["model"] for group in groups("texts", models=both, sizes=(32,))} == {"ViT-B-32"}
