"""The benchmark's own rules: a wrong contender has no speed, a slower one is found, a failure is a row, and measured rows are kept."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import towers
from fastloc.bench import correctness_gate, regression, schema, session, stats
from fastloc.bench.backends import table, torch_backend
from fastloc.bench.cases import Case, read_inputs, write_inputs
from fastloc.bench.models import model
from fastloc.bench.peers.seeded import seeded_state, vision_shapes
from fastloc.bench.worker_pool import WorkerError, WorkerProcess
from fastloc.errors import FastlocError, ModelError
from fastloc.functional.vit import forward
from fastloc.recipes import RECIPES, recipe
from fastloc.reference import any_recipe, methods
from repo import SUPPORT

TINY = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 7, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0}}
# a call's length: large beside what the tiny tower and a busy machine add to it
CALL = 0.04


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("bench")
    save_file({name: torch.from_numpy(each) for name, each in seeded_state(vision_shapes(TINY), 0).items()}, folder / "tiny.safetensors")
    inputs = write_inputs(folder / "inputs", 2, (32, 48), 3, 24, (40, 60))
    made = Case("tiny", TINY, str(folder / "tiny.safetensors"), "gem", (32, 48), str(inputs), batch=2, texts=3, frame=(40, 60))
    # what the stand-in answers
    np.save(inputs / "wanted.npy", correctness_gate.grids(made))
    return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts planted workers; they end with the test."""
    workers = []

    def started(**planted: Any) -> WorkerProcess:
        command = [sys.executable, "-P", SUPPORT / "planted_worker.py", json.dumps(planted)]
        # the tests' folder, as pytest's configuration has it
        workers.append(WorkerProcess("planted", command, 1, tmp_path / f"{len(workers)}.log", {"PYTHONPATH": str(SUPPORT)}))
        return workers[-1]

    yield started
    for each in workers:
        each.close()


def contender(label: str, worker: WorkerProcess, case: Case, **more: Any) -> session.Contender:
    return session.Contender(label, lambda: worker, case, {"contender": label}, **more)


def measured(tmp_path: Path, contenders: list[session.Contender], least: int = 5, seconds: float = 0.1) -> dict[str, schema.Row]:
    rows: list[schema.Row] = []
    references = session.References(tmp_path, lambda case, size: case.inputs)
    group = session.Group("a group", contenders, least=least, against=(contenders[0].label,))
    session.measure(group, seconds, references, rows.append, lambda text: None)
    return {row["contender"]: row for row in rows}


# what is planted


@pytest.mark.slow("twenty rounds of timed calls")
def test_a_planted_slow_down_is_found_and_no_other(tmp_path: Path, case: Case, start: Callable[..., WorkerProcess]) -> None:
    usual, same, slow = (start(engine=True, seconds=CALL, slower=share) for share in (0, 0, 0.5))
    group = [contender("usual", usual, case), contender("same", same, case), contender("slow", slow, case)]
    rows = measured(tmp_path, group, least=9)
    assert all(0 < row["error"] < 1e-5 and row["rounds"] >= 9 for row in rows.values())
    slower, equal = rows["slow"]["ratios"]["usual"], rows["same"]["ratios"]["usual"]
    # other work on the machine falls on all of them, not evenly
    assert 1.25 < slower[1] <= slower[0] <= slower[2] < 1.75, slower
    assert stats.slower(tuple(slower), 0.1) and not stats.slower(tuple(equal), 0.1), (slower, equal)
    # and so says the regression watch
    pair = session.Group("a case", [replace(group[0], label=regression.THEN), replace(group[2], label=regression.NOW)])
    found = regression.judged(pair, 0.1)
    assert found.slower and found.ratio is not None and found.ratio[0] == pytest.approx(slower[0])
    other = session.Group("a case", [replace(group[0], label=regression.THEN), replace(group[1], label=regression.NOW)])
    verdict = regression.Verdict("abc", 0.1, (found, regression.judged(other, 0.1)))
    assert verdict.slower and verdict.lines()[0].startswith("SLOWER") and verdict.lines()[-1].startswith("1 of 2 cases")
    assert not regression.Verdict("abc", 0.1, verdict.cases[1:]).slower


@pytest.mark.parametrize("planted", [{"wrong": 1e-2}, {"wrong": math.nan}, {"wrong_later": 1e-2}], ids=str)
def test_a_planted_wrong_result_is_refused(
    planted: dict[str, float], tmp_path: Path, case: Case, start: Callable[..., WorkerProcess]
) -> None:
    rows = measured(tmp_path, [contender("right", start(), case), contender("wrong", start(**planted), case)])
    assert rows["right"]["ms"] > 0 and rows["right"]["error"] < rows["right"]["allowed"] == 1e-4
    assert "ms" not in rows["wrong"] and "ratios" not in rows["wrong"]
    assert rows["wrong"]["failed"].startswith("it computes something else: off by "), rows["wrong"]


@pytest.mark.parametrize(
    ("planted", "message"),
    [({"fails": "prepare"}, "MemoryError: planted"), ({"fails": "go"}, "MemoryError: planted"),
     ({"dies": "prepare"}, "its process ended with exit code 3: last words")], ids=str,
)  # fmt: skip
def test_who_fails_is_a_row_and_the_others_go_on(
    planted: dict[str, str], message: str, tmp_path: Path, case: Case, start: Callable[..., WorkerProcess]
) -> None:
    rows = measured(tmp_path, [contender("good", start(), case), contender("bad", start(**planted), case)])
    assert rows["bad"]["failed"] == message and "ms" not in rows["bad"]
    assert rows["good"]["ms"] > 0 and rows["good"]["rounds"] >= 5


def test_an_interrupt_keeps_what_was_measured(tmp_path: Path, case: Case, start: Callable[..., WorkerProcess]) -> None:
    rows: list[schema.Row] = []
    references = session.References(tmp_path, lambda case, size: case.inputs)
    group = session.Group("a group", [contender("one", start(), case), contender("other", start(fails="prepare"), case)])

    def say(text: str) -> None:
        if text.endswith("round 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.measure(group, 60.0, references, rows.append, say)
    assert [row["contender"] for row in rows] == ["one", "other"] and rows[0]["rounds"] == 3


def test_what_is_not_compared_is_marked(tmp_path: Path, case: Case, start: Callable[..., WorkerProcess]) -> None:
    rows = measured(tmp_path, [contender("theirs", start(wrong=1.0), case, check="")])
    assert rows["theirs"]["checked"] == "cost only" and "error" not in rows["theirs"] and rows["theirs"]["ms"] > 0


def test_a_large_case_is_compared_at_a_smaller_size(
    tmp_path: Path, case: Case, start: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_inputs(tmp_path / "small", 2, (16, 24), 3, 24, (40, 60))
    np.save(small / "wanted.npy", correctness_gate.grids(case.at((16, 24), str(small))))
    references = session.References(tmp_path, lambda case, size: str(small))

    def measured_when(fitting: list[tuple[int, int]]) -> schema.Row:
        rows: list[schema.Row] = []
        monkeypatch.setattr(correctness_gate, "fitting", lambda case: fitting.pop(0))
        session.measure(session.Group("a group", [contender("one", start(), case)]), 0.1, references, rows.append, lambda text: None)
        return rows[0]

    row = measured_when([(16, 24)])
    assert row["checked"].startswith("at 16x24, ") and row["error"] == 0 and row["ms"] > 0
    # memory that is gone later changes nothing: it is asked once
    row = measured_when([(32, 48)])
    assert "checked" not in row and row["error"] == 0 and row["ms"] > 0


def test_a_worker_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="could not be started"):
        WorkerProcess("none", [tmp_path / "nothing"], 1, tmp_path / "log")
    with pytest.raises(WorkerError, match=r"ended with exit code 0"):
        WorkerProcess("silent", [sys.executable, "-c", ""], 1, tmp_path / "log")
    with pytest.raises(WorkerError, match="it said 'hello', which is not the protocol"):
        WorkerProcess("odd", [sys.executable, "-c", "print('hello'); input()"], 1, tmp_path / "log")
    with pytest.raises(WorkerError, match="its protocol must be 1, got 0"):
        WorkerProcess("old", [sys.executable, "-c", """print('{"protocol": 0}', flush=True); input()"""], 1, tmp_path / "log")


# what is right


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_literal_statement_of_a_recipe_is_the_methods_own(name: str) -> None:
    weights, pixels = towers.tower(), towers.pixels(2, (3, 5))
    assert towers.error(any_recipe.features(weights, pixels, RECIPES[name]), methods.METHODS[name](weights, pixels)) < 1e-12


@pytest.mark.parametrize(
    ("name", "changes"),
    [("clip_surgery", {"residual": False}), ("clearclip", {"blocks": 3}), ("naclip", {"blocks": 6, "bias_std": 1.0}),
     ("gem", {"blocks": 3, "iterations": 0, "inv_temp": 5.0, "residual": False}), ("gem", {"inv_temp": None, "iterations": 2})],
)  # fmt: skip
def test_the_literal_statement_of_a_changed_recipe(name: str, changes: dict[str, Any]) -> None:
    weights, pixels, row = towers.tower(), towers.pixels(2, (3, 5)), recipe(name, **changes)
    assert towers.error(any_recipe.features(weights, pixels, row), forward(weights, pixels, row).patches) < 1e-10
    assert towers.error(any_recipe.features(weights, pixels, row), methods.METHODS[name](weights, pixels)) > 1e-4


def test_the_gate(case: Case) -> None:
    expected = correctness_gate.grids(case)
    assert expected.shape == (2, 3, 4, 6) and expected.dtype == np.float32
    assert correctness_gate.judged(expected, expected, "float32") == correctness_gate.Verdict(0.0, 1e-4)
    nearly = expected + np.float32(1.5e-4) * np.abs(expected).max()
    assert correctness_gate.judged(nearly, expected, "float32").refused and not correctness_gate.judged(nearly, expected, "float16").refused
    assert correctness_gate.judged(expected[:1], expected, "float32").refused == "its answer must be [2, 3, 4, 6], got [1, 3, 4, 6]"
    assert correctness_gate.grids(case, "encoder").shape == (2, 3, 1, 1)
    # a batch is its pictures one by one: answers of one picture that depend on another's are wrong
    alone = correctness_gate.grids(replace(case, inputs=case.inputs))[1:]
    assert np.array_equal(alone, expected[1:])


def test_a_reference_that_does_not_fit_is_asked_at_a_smaller_size(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert correctness_gate.fitting(case) == case.size
    monkeypatch.setattr(correctness_gate, "available", lambda: 2 * correctness_gate.MAPS * 4 * 6**2 / correctness_gate.SHARE)
    assert correctness_gate.fitting(case) == (16, 24)


def test_inputs_are_rotated_and_alike(case: Case, tmp_path: Path) -> None:
    found = read_inputs(case.to_dict())
    assert len(found["pixels"]) == 4 and not np.array_equal(found["pixels"][0], found["pixels"][1])
    assert found["frames"][0].shape == (2, 40, 60, 3) and found["frames"][0].dtype == np.uint8 and np.ptp(found["frames"][0]) > 100
    again = write_inputs(tmp_path, 2, (32, 48), 3, 24, (40, 60))
    for name in ("pixels-0", "frames", "texts"):
        assert np.array_equal(np.load(again / f"{name}.npy"), np.load(Path(case.inputs) / f"{name}.npy")), name
    assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case


@pytest.mark.parametrize(("name", "message"), [
    ("embedded:x", "embedded must come without a tag, got ':x'"), ("ViT-B-17", "did you mean"),
    ("ViT-B-16:no_such_tag", "unknown pretrained tag"),
])  # fmt: skip
def test_models_that_cannot_be_measured(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model(name)


def test_models() -> None:
    embedded, random = model("embedded"), model("ViT-B-16-quickgelu")
    assert embedded.trained and embedded.size == 96 and not random.trained and random.spec.activation == "quick_gelu"
    assert model("ViT-B-16").spec.activation == "gelu"


@pytest.mark.parametrize(("name", "device", "dtype", "message"), [
    ("triton", "cpu", "float32", "it runs on cuda, not on cpu"), ("int8", "cuda:1", "float16", "it runs on cpu, not on cuda"),
    ("ort", "cpu", "bfloat16", "on cpu it computes in float32, float16, not in bfloat16"), ("torch", "cpu", "float32", ""),
])  # fmt: skip
def test_why_not(name: str, device: str, dtype: str, message: str) -> None:
    assert "; ".join(table.why_not(table.BACKENDS[name], device, dtype)) == message


# the records


ROW: schema.Row = {"run": "20260101-000000", "suite": "methods", "contender": "torch", "device": "a CPU", "commit": "abc", "versions": {}}


def test_rows_are_kept_line_by_line(tmp_path: Path) -> None:
    log = schema.Log(tmp_path / "machine" / "a.jsonl")
    log.add({**ROW, "ms": 1.23456789, "failed": None, "ratios": {"encoder": (1.0, 0.9, 1.123456)}})
    log.add({**ROW, "run": "20260102-000000", "suite": "cold"})
    schema.Log(tmp_path / "other" / "b.jsonl").add({**ROW, "run": "20251231-000000"})
    rows = schema.read(tmp_path)
    assert [row["run"] for row in rows] == ["20251231-000000", "20260101-000000", "20260102-000000"]
    assert rows[1] == {**ROW, "ms": 1.2346, "ratios": {"encoder": [1.0, 0.9, 1.1235]}} == log.rows[0]
    assert schema.newest(rows, "methods") == [rows[1]] and schema.newest(rows, "tokens") == []


@pytest.mark.parametrize(("change", "message"), [
    ({"speed": 1.0}, "no column 'speed'"), ({"ms": "1"}, "column 'ms' must be float or int, got '1'"),
    ({"ms": math.inf}, "column 'ms' must be finite, got inf"), ({"commit": None}, "got none of commit"),
])  # fmt: skip
def test_rows_that_are_none(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match=message):
        schema.Log(tmp_path / "a.jsonl").add({**ROW, **change})
    assert not (tmp_path / "a.jsonl").exists()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match="does not exist"):
        schema.read(tmp_path / "a.jsonl")
    with pytest.raises(FastlocError, match="holds no records"):
        schema.read(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(FastlocError, match=r"a\.jsonl', line 1, is not a record: .* got none of run"):
        schema.read(tmp_path)


def test_the_embedding_alone_is_open_clips_at_another_size_too(case: Case) -> None:
    """The case's 32 x 48 pixels are not the trained size, so positions are resized."""
    rows = (("embedding", torch_backend.embedding), ("open_clip", torch_backend.open_clip))
    answers = [made(table.BACKENDS[name], case).answer for name, made in rows]
    assert answers[0] is not None and answers[1] is not None
    found, expected = answers[0](), answers[1]()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
