"""The parts of the GPU script without a GPU: correct comparisons and complete records.

Kernels run in Triton's interpreter, where their times mean nothing; the tests assert the records' contents.
"""

import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import pytest
import torch

import towers
from fastloc.bench.backends import official_gem
from fastloc.imaging.geometry import fit
from fastloc.reference import methods, readouts
from gpu_jobs import CPU, HEAD, a_job, done
from gpu_parts import gate, kernels, likeness, measured, models, parity, report, scenes, speed, video

EXACT = 1e-10
# where there is a GPU the tests' kernels are compiled for it, and a CPU has none
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and kernels are not interpreted")


# what is compared


@pytest.mark.parametrize("kind", [{}, {"scale": True, "activation": "quick_gelu"}, {"ln_pre": False, "activation": "gelu_tanh"}], ids=str)
@pytest.mark.parametrize(("depth", "iterations"), [(7, 1), (3, 0), (8, 2)])
def test_the_official_style_is_the_reference(kind: dict[str, Any], depth: int, iterations: int) -> None:
    weights, texts = towers.tower(**kind), towers.texts(3)
    for grid in ((4, 4), (3, 5)):
        pixels = towers.pixels(2, grid)
        expected = readouts.cosine(methods.gem(weights, pixels, depth, iterations), texts).transpose(1, 2).reshape(2, 3, *grid)
        found = official_gem.gem(weights, pixels, texts, depth, iterations)
        assert towers.error(found, expected) < EXACT
    large = official_gem.gem(weights, pixels, texts, depth, iterations, size=(24, 40))
    assert towers.error(large, torch.nn.functional.interpolate(expected, (24, 40), mode="bilinear")) < EXACT


def test_every_recipe_has_an_exact_answer() -> None:
    weights, pixels, words = models.exact_weights("tiny", CPU), models.pixels(2, (24, 40), CPU), models.texts("tiny", CPU)
    for recipe in parity.RECIPES.values():
        grids = models.exact(weights, pixels, words, recipe)
        assert grids.shape == (2, 4, 3, 5) and grids.dtype == torch.float64 and grids.isfinite().all(), recipe.name
    gem = models.exact(weights, pixels, words, parity.RECIPES["gem"])
    assert towers.error(official_gem.gem(weights, pixels, words.double()), gem) < EXACT


def test_a_late_part_leaves_out_and_says_what(tmp_path: Path) -> None:
    one = a_job("speed", tmp_path, seconds=-1.0)
    record = done(speed, one)
    assert record["rows"] == [] and record["left_out"] == ["tiny 32 b1", "tiny 32 b2"] and not record["finished"]


# the parts, with Triton's interpreter


@interpreted
def test_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastloc.kernels import table

    few = {name: table.OPS[name] for name in ("quick_gelu", "cosine", "add_norm")}
    monkeypatch.setattr(table, "OPS", few)
    module = few["quick_gelu"].module
    # a kernel that is wrong in one element
    monkeypatch.setattr(module, "reference", lambda x, out=None, configuration=None: torch.full_like(x, 3.0))
    record = done(gate, a_job("gate", tmp_path))
    problems = {(row["op"], row["dtype"]): row["problems"] for row in record["rows"]}
    assert set(problems) == {(op, dtype) for op in few for dtype in ("float16", "bfloat16")}
    assert record["good"] is False and problems["quick_gelu", "float16"] and not problems["cosine", "float16"]
    settings, why = models.fallback(a_job("speed", tmp_path))
    assert settings == {"activation": "torch"} and why.startswith("activation=torch because quick_gelu is wrong (output 0: ")
    assert not models.dangerous(a_job("speed", tmp_path))
    # a plan without the kernel is named as such, and the one with it is timed beside it
    assert {"default", "default, not trusted"} <= set(speed.contenders(a_job("speed", tmp_path), ("tiny", 32, 1)))


@interpreted
def test_parity_and_what_it_calls_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [item for item in parity.items(a_job("parity", tmp_path), "tiny", "gem", (24, 40))
             if item["settings"] in ({}, {"projection": "joint"}, {"readout": "triton"})]  # fmt: skip
    monkeypatch.setattr(parity, "items", lambda *arguments: items)
    monkeypatch.setattr(parity.parity_io, "items", lambda one, name: [])
    record = done(parity, a_job("parity", tmp_path))
    assert record["good"] and [
        (row["batch"], row["dtype"]) for row in record["rows"] if row["model"] == "tiny" and not row["settings"]
    ] == [
        (batch, dtype) for batch in (1, 2) for dtype in ("float16", "bfloat16", "float32")
    ]
    assert any(row["plan"]["readout"] == "triton" for row in record["rows"])
    # two of the other families' towers where it is to be quick, every one of them otherwise
    assert {row["model"] for row in record["rows"]} == {"tiny", *parity.families.NAMES[:2]}
    assert all(0 < row["error"] <= row["allowed"] for row in record["rows"])
    assert max(row["alone"] for row in record["rows"] if "alone" in row) < 1e-2
    monkeypatch.setattr(parity, "expected", lambda *arguments: (torch.ones(1, 4, 3, 5, dtype=torch.float64), 1e-4))
    wrong = parity.check(items[0], CPU)
    assert wrong is not None and wrong["problems"]


@pytest.mark.slow("kernels on large frames in the interpreter", quick=1)
@interpreted
@pytest.mark.parametrize("place", range(3))
def test_parity_of_frames_and_maps(place: int, tmp_path: Path) -> None:
    one = a_job("parity", tmp_path)
    # grids of frames take seconds in the interpreter
    for item in parity.parity_io.items(one, "tiny")[place][: 1 if place == 1 else 3]:
        row = parity.parity_io.check(item, CPU)
        assert row["problems"] == [], row


def test_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "QUICK", speed.QUICK[:1])
    record = done(speed, a_job("speed", tmp_path))
    rows = {row["contender"]: row for row in record["rows"]}
    assert list(rows) == ["official float32", "official bfloat16", "sdpa + graph", "default", "encoder", "encoder sdpa + graph"]
    for row in rows.values():
        assert row["config"] == "tiny 32 b1" and 0 < row["ms_p20"] <= row["ms"] <= row["ms_p80"] and row["rounds"] >= 2
        assert row["error"] < (3e-2 if row["dtype"] == "bfloat16" else 1e-5), row
    columns = {row["contender"]: row for row in measured.measurements(record) if row.get("dtype") == "float32"}
    assert list(columns) == ["official", "sdpa + graph", "default", "encoder", "encoder sdpa + graph"]
    for row in columns.values():
        assert row["model"] == "tiny" and row["tokens"] == 17 and row["error"] < row["allowed"] and "achieved" not in row, row
    # the official form writes its maps, and carries every token to the end; and the encoder does less than GEM
    assert columns["default"]["gflop"] < columns["official"]["gflop"] and columns["encoder"]["gflop"] < columns["default"]["gflop"]
    assert columns["default"]["traffic_mb"] < columns["official"]["traffic_mb"]
    assert rows["default"]["plan"]["attention"] == "sdpa" and rows["default"]["fallback"] == "the gate has not run"
    # what is measured is not measured again
    again = a_job("speed", tmp_path, rows=record["rows"])
    speed.run(again)
    assert len(again.rows) == len(record["rows"])
    large = dataclasses.replace(models.seeded("tiny").spec, heads=64)
    monkeypatch.setattr(models, "seeded", lambda name: types.SimpleNamespace(spec=large))
    with pytest.raises(MemoryError, match="would take"):
        speed.official(again, ("tiny", 4480, 1), "float32")


@pytest.mark.slow("kernels in the interpreter")
@interpreted
def test_kernels_and_their_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("quick_gelu", "frames, first pass")
    monkeypatch.setattr(kernels.kernel_tuning, "CANDIDATES", {kernel: kernels.kernel_tuning.CANDIDATES[kernel] for kernel in chosen})
    cases = kernels.kernel_cases.cases
    monkeypatch.setattr(kernels.kernel_cases, "cases", lambda device, small: cases(device, small)[2:4])
    record = done(kernels, a_job("kernels", tmp_path))
    compared = [row for row in record["rows"] if "contender" in row]
    assert {row["contender"] for row in compared} == {"kernel", "torch"} and len(compared) == 4
    assert all(row["ms"] > 0 and row["gbs"] > 0 and row["error"] < 2e-3 for row in compared), compared
    counts = [(row["case"], row["moved_mb"]) for row in measured.measurements(record) if "moved_mb" in row]
    bytes_of = {case.label: case.bytes for case in (make() for make in kernels.kernel_cases.cases(CPU, True))}
    assert len(counts) == 4 and all(mb == pytest.approx(bytes_of[case] / 1e6, rel=1e-4) for case, mb in counts)
    tuned = [row for row in record["rows"] if "tuned" in row]
    assert [row["tuned"] for row in tuned] == [kernel for kernel in chosen for _ in range(2)]
    assert all(row["apart"] < 1e-3 and not row.get("failed") for row in tuned), tuned


def test_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "RATES", (60,))
    record = done(video, a_job("video", tmp_path))
    assert [row["what"] for row in record["rows"]] == ["host frames, every one", "host frames, 60 a second: age"]
    for row in record["rows"]:
        assert 0 < row["ms_p20"] <= row["ms"] <= row["ms_p99"] and row["fps"] > 0 and row["error"] < 1e-5, row
    assert record["rows"][1]["captured"] >= record["rows"][1]["dropped"] and record["rows"][1]["ms_p95"] <= record["rows"][1]["ms_p99"]
    # nothing is timed of a stream that answers something else than the same frames alone
    monkeypatch.setattr(video, "_stream", lambda localizer, frames, live: [])
    record = done(video, a_job("video", tmp_path))
    assert [row["ms"] for row in record["rows"]] == [None] and "not those of the same frames alone" in record["rows"][0]["failed"]


def test_every_case_of_kernels_can_be_made() -> None:
    """Without the kernels themselves: what they stand beside answers as float64 does."""
    for make in kernels.kernel_cases.cases(CPU, small=True):
        case = make()
        assert case.exact is not None
        expected = case.exact()
        others = {name: call for name, call in case.contenders.items() if not name.startswith("kernel")}
        assert others and (case.flops > 0) != (case.bytes > 0), case.label
        for name, call in others.items():
            found = call(0)
            assert name.startswith("two bare") or models.off(found[: len(expected)], expected) < 1e-2, (case.label, name)


@interpreted
def test_every_configuration_names_what_its_kernel_takes() -> None:
    """Launched on the meta device: a name that a launcher does not know raises there too."""
    from fastloc.kernels.launch import recording

    for kernel, (_, candidates) in kernels.kernel_tuning.CANDIDATES.items():
        of = kernels.kernel_tuning.launcher(kernel, CPU, 1, small=True)
        with recording() as builds:
            of(None)(0)
            shipped = len(builds)
            for each in candidates:
                of(each)(0)
        assert shipped > 0 and len(builds) == shipped * (len(candidates) + 1), kernel
        assert len({json.dumps(each, sort_keys=True) for each in candidates}) == len(candidates), kernel


def test_no_time_of_what_is_wrong() -> None:
    head = {"config": "B/16 448 b1", "model": "B/16", "size": 448, "batch": 1, "dtype": "float16", "rounds": 5, "calls": 5}
    rows = [
        {"contender": "default", "ms": 1.0, "error": 1e-3},
        {"contender": "default", "ms": 1.0, "error": 0.5},
        {"contender": "default, not trusted", "ms": 1.0, "error": 1e-3, "fallback": "cosine is wrong"},
        {"contender": "compiled bfloat16", "dtype": "bfloat16", "ms": 1.0, "error": 1e-2},
        {"contender": "official float32", "ms": None, "failed": "not run", "estimate_gb": 3.0},
    ]
    record = {**HEAD, "part": "speed", "rows": [{**head, **row} for row in rows]}
    good, off, doubtful, compiled, large = measured.measurements(record)
    assert good["ms"] == 1.0 and good["model"] == "ViT-B-16-quickgelu" and good["tokens"] == 785 and good["weights"] == "random"
    assert off["failed"] == "it computes something else: off by 5.0e-01, 2e-02 is allowed" and "ms" not in off and off["error"] == 0.5
    assert doubtful["failed"] == "not trusted: cosine is wrong" and "ms" not in doubtful
    assert compiled["contender"] == "official" and compiled["compiled"] and compiled["ms"] == 1.0
    assert large["failed"] == "not run" and large["needs_mb"] == 3000
    assert measured.measurements({**record, "part": "gate"}) == []


def test_targets() -> None:
    def row(contender: str, ms: float, config: str = report.ONE) -> dict[str, Any]:
        return {"config": config, "contender": contender, "ms": ms}

    speeds = [row("official float32", 9.0), row("default", 0.8), row("encoder", 0.5), row("default", 20.0, report.MANY)]
    case = {"case": "self-self N=785 d=64 Z=1"}
    times = {"kernels": 0.1, "sdpa flash": 0.16, "sdpa cudnn": 0.15, "two bare sdpa cudnn": 0.12}
    kernel = [{**case, "contender": name, "ms": ms} for name, ms in times.items()]
    frame = [{"frame": "1080p", "batch": 1, "what": "device frame to grid, back to back", "ms": 0.9}]
    quality = [{"method": "gem", "dtype": "float16", "points": 0.1}, {"method": "naclip", "dtype": "float16", "points": -0.7}]
    streams = [{"frame": "1080p", "what": "host frames, every one", "fps": 150.0},
               {"frame": "1080p", "what": "host frames, 200 a second: age", "ms_p95": 7.0}]  # fmt: skip
    files = [{"step": step, "problems": ["it is wrong"] if step == "cuda" else []} for step in ("export", "cpu", "cuda")]
    parts = {"speed": speeds, "kernels": kernel, "frames": frame, "quality": quality, "exported": files, "video": streams}
    text = "\n".join(report.targets({part: {"rows": rows} for part, rows in parts.items()}))
    for line in (
        "yes a uint8 frame on the device to its grid",
        "NO  the plain encoder's time, same plan: ≤ 1.35 x: 1.6 x",
        "NO  batch 32: ≥ 2000 images/s: 1.6e+03",
        "yes the official form, eager float32, B/16 448 b1: ≥ 10 x: 11.2 x",
        "?   the official form, eager float32, B/16 448 b8",
        "yes SDPA's best back end, self-self N=785 d=64 Z=1: ≥ 1.3 x: 1.5 x; its two products alone: 1.20 x",
        "NO  float16 points as float32 does: ± 0.5 points, at most -0.70 for naclip: 0.7 points",
        "?   bfloat16 points as float32 does",
        "NO  a stream of decoded 1080p frames, B/16 448: ≥ 200 frames/s: 150 frames/s",
        "yes age at 200 frames/s, p95: ≤ 15 ms: 7 ms",
        "NO  exported files compute what float32 does (runs: cpu 1, cuda 1): 1 wrong",
    ):
        assert line in text, text


# exported files


def test_likeness() -> None:
    where, score = fit((64, 64), 32, (8, 8)), parity.RECIPES["gem"].readout
    right = torch.rand(2, 3, 4, 4)
    assert likeness.compared(score, [(where, right, right)]) == {"similarity": 0, "heatmap": 0, "labels": 1}
    shifted = likeness.compared(score, [(where, right, right), (where, right, right + 0.25)])
    # a constant is in no map
    assert shifted["similarity"] == pytest.approx(0.25) and shifted["heatmap"] < 1e-5 and shifted["labels"] > 0.999
    turned = likeness.compared(score, [(where, right, right), (where, right, right.roll(1, dims=1))])
    assert 0.5 <= turned["labels"] < 0.7
    right[1, 0, 0, 0] = torch.nan
    assert likeness.compared(score, [(where, right, torch.rand(2, 3, 4, 4))])["similarity"] == float("inf")


# the quality set without open_clip


def test_texts_are_of_these_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scenes.texts()
    assert set(found) == {row.template for row in scenes.variants().values()}
    for each in found.values():
        assert each.shape == (len(scenes.names()) + 1, 192) and each.dtype == torch.float32
        assert (each.norm(dim=-1) - 1).abs().max() < 1e-5
    monkeypatch.setattr(scenes, "fingerprint", lambda: "of other weights")
    with pytest.raises(ValueError, match=r"quality_texts.safetensors was made with other weights than model.safetensors"):
        scenes.texts()


def test_texts_are_the_localizers() -> None:
    from fastloc.checkpoints.loading import load

    names = scenes.names()
    # one sentence each; the other templates are eighty of them
    assert (load().text(names[:5], "gem") - scenes.texts()["gem"][:5]).abs().max() < 1e-6


def test_float16_points_where_float32_does() -> None:
    row = scenes.variants()["gem (recommended)"]
    runs = {dtype: scenes.engine(row, CPU, dtype, {}) for dtype in ("float32", "float16")}
    with torch.inference_mode():
        measured = scenes.measure(row, runs, CPU, 6)
    assert measured["float32"]["error"] == 0 and measured["float32"]["moved"] == 0 and measured["float32"]["pointing"] > 0.5
    assert 0 < measured["float16"]["error"] < measured["float16"]["map_error"] < 1e-2
    rows = scenes.rows_of("gem", measured)
    assert rows[1]["points"] == pytest.approx(100 * (measured["float16"]["pointing"] - measured["float32"]["pointing"]))
    assert len(scenes.table(rows)) == 2
