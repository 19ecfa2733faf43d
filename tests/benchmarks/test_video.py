"""The video benchmark, short: its findings of faults and of flat resources are right, and heat follows moving things."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

import video as soak
from embedded_model import moving_scenes
from fastloc.video.sources.frame import Frame
from video_parts import file_mode, flat, live_mode, overhead, record, tracking
from video_parts.paced import Nothing, Slow, paced

# what is sure to fit into a frame interval, and what is not, on a machine that does other things too
RATE, INTERVAL = 30.0, 1 / 30


# file mode


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, moving_scenes.Clip]:
    drawn = moving_scenes.clip(2, 2, (96, 128), seconds=2, varying=True, stamp=True)
    return moving_scenes.write(drawn, tmp_path_factory.mktemp("clip") / "clip.mp4"), drawn


@pytest.mark.parametrize(("seconds", "every"), [(0.0, 1), (0.003, 1), (0.003, 3)])
def test_every_frame_once_in_order_at_its_time(clip: tuple[Path, moving_scenes.Clip], seconds: float, every: int) -> None:
    path, drawn = clip
    row = file_mode.streamed(path, drawn, file_mode.packets(path), Slow(Nothing(), seconds), every)
    assert row["problems"] == [] and row["frames"] == 60 and row["time_off_s"] < 1e-6


def test_what_is_lost_or_late_is_found(clip: tuple[Path, moving_scenes.Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    path, drawn = clip
    times = file_mode.packets(path)
    assert any("off the file's" in each for each in file_mode.streamed(path, drawn, [at + 0.01 for at in times], Nothing())["problems"])
    longer = moving_scenes.clip(2, 2, (96, 128), seconds=3, varying=True, stamp=True)
    problems = file_mode.streamed(path, longer, times, Nothing())["problems"]
    assert "60 frames came of 90" in problems and "an index is not the frame's" not in problems
    import fastloc

    # a stream of the newest frames alone loses some behind a slow engine
    whole = fastloc.stream
    monkeypatch.setattr(fastloc, "stream", lambda *args, **more: whole(*args, policy="newest", **more))
    problems = file_mode.streamed(path, drawn, times, Slow(Nothing(), 0.01))["problems"]
    assert any(each.endswith("frames came of 60") for each in problems) and any("dropped" in each for each in problems), problems


# live mode


@pytest.mark.slow("plays in real time")
def test_a_slow_engine_gets_young_frames() -> None:
    case = live_mode.Case("slow", RATE, 0.2)
    part = live_mode.run(case, 2.0, warm=0.5, localizer=Slow(Nothing(), case.slow))
    row = part["rows"][0]
    assert part["problems"] == [] and all(isinstance(line, str) for line in live_mode.lines(part))
    assert row["captured"] > 45 and 6 <= row["located"] <= 12 and row["dropped"] == row["captured"] - row["delivered"]
    # a queue of two frames or more would be 0.2 seconds behind at least
    assert row["inference_p50_ms"] >= 200 and row["excess_p50_ms"] < 20, row
    assert row["blocks_slope"] < 100_000 and row["files_first"] == row["files_last"]


@pytest.mark.slow("plays in real time")
def test_a_quick_engine_gets_every_frame() -> None:
    case = live_mode.Case("quick", RATE, 0.0)
    row = live_mode.run(case, 1.0, warm=0.2, localizer=Nothing())["rows"][0]
    assert row["delivered"] == row["captured"] - row["dropped"] and row["dropped"] <= 3 and row["age_p50_ms"] < 1000 * INTERVAL


def test_a_source_that_keeps_time() -> None:
    began = time.monotonic()
    found = [(number, time.monotonic() - began) for number in paced(range(100), 100.0, 0.2)]
    assert [number for number, _ in found] == list(range(len(found))) and 19 <= len(found) <= 21
    assert all(at >= number / 100 for number, at in found)
    # what is late comes at once, and the rest in time again
    slow: Iterator[int] = paced(range(10), 100.0)
    next(slow)
    time.sleep(0.05)
    began = time.monotonic()
    assert [next(slow) for _ in range(4)] == [1, 2, 3, 4] and time.monotonic() - began < 0.02


# what is flat


def test_slopes() -> None:
    trend, rng = flat.Trend(8), np.random.default_rng(0)
    for second in range(600):
        trend.add(100.0 + second, 50 + second / 60 * 2 + rng.normal(0, 0.5))
    fields = trend.fields("mb", 120)
    assert abs(fields["mb_slope"] - 2) < 4 * fields["mb_slope_error"] < 0.2 and fields["mb_last"] > fields["mb_first"] + 10
    assert trend.fields("mb", 0, until=200.0)["mb_last"] < 55 and trend.fields("mb", 1e9) == {"mb": None}
    still = flat.Trend()
    for second in range(600):
        still.add(second, float(rng.normal(0, 0.5)))
    fields = still.fields("mb", 120)
    assert abs(fields["mb_slope"]) < 4 * fields["mb_slope_error"]


def test_a_leak_is_seen() -> None:
    kept: list[Any] = []
    stop = threading.Event()
    with flat.Watch(0.02) as watch:
        for number in range(40):
            kept.append([float(number + each) for each in range(1000)])
            time.sleep(0.01)
        thread = threading.Thread(target=stop.wait)
        thread.start()
        time.sleep(0.1)
        fields = watch.fields(0.0)
        stop.set()
        thread.join()
    assert fields["blocks_slope"] > 30_000 and fields["threads_last"] == fields["threads_first"] + 1 and kept


# tracking


class Following:
    """A localizer whose map is warm where the first thing is, some frames late; the absent text's map is noise."""

    logit_scale = 100.0

    def __init__(self, clip: moving_scenes.Clip, late: int = 0) -> None:
        self.clip, self.late = clip, late

    def encode_texts(self, texts: Any) -> Any:
        return tuple(texts)

    def predict_frame(self, frame: Any, ready: Any, bgr: bool = False) -> Any:
        found = Nothing().predict_frame(frame, ready)
        number = moving_scenes.stamped(frame)
        expected = self.clip.at(max(number - self.late, 0)).truths[0]
        height, width = self.clip.size
        step = np.array([width, height]) / 12
        y, x = np.mgrid[:12, :12]
        away = ((x + 0.5) * step[0] - expected.centre[0]) ** 2 + ((y + 0.5) * step[1] - expected.centre[1]) ** 2
        warm = np.exp(-away / (2 * (height / 6) ** 2)) * (expected.box is not None)
        noise = np.random.default_rng(number).normal(0, 0.01, (len(ready), 12, 12))
        similarity = (noise + 0.3 * warm * (np.arange(len(ready)) == 0)[:, None, None]).astype(np.float32)
        return type(found)(**{**{name: getattr(found, name) for name in found.__dataclass_fields__}, "similarity": similarity})

    def __call__(self, *_: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def moving() -> moving_scenes.Clip:
    return moving_scenes.clip(6, ("cat",), (96, 128), seconds=5, leaves=4.0, stamp=True)


def judged(clip: moving_scenes.Clip, late: int, *modes: tracking.Mode) -> dict[str, tracking.Row]:
    found = tracking.follow(Following(clip, late), clip, ("cat", "pizza"), modes)
    return {name: tracking.summed([judge]) for name, judge in found.items()}


def test_lag_is_measured(moving: moving_scenes.Clip) -> None:
    plain = tracking.Mode("plain")
    prompt, late = judged(moving, 0, plain)["plain"], judged(moving, 6, plain)["plain"]
    assert prompt["pointing"] > 0.85 and prompt["questions"] == 120
    # six frames at 30 a second
    assert abs(prompt["lag_s"]) < 0.05 and abs(late["lag_s"] - 0.2) < 0.05, (prompt, late)


def test_smoothing_reuse_and_ranges_do_what_they_say(moving: moving_scenes.Clip) -> None:
    settings: dict[str, dict[str, Any]] = {"plain": {}, "smooth": {"smooth": 0.2}, "every": {"every": 5}, "running": {"maps": "running"},
                                           "fixed": {"maps": "fixed"}}  # fmt: skip
    found = judged(moving, 0, *(tracking.Mode(name, **more) for name, more in settings.items()))
    plain = found["plain"]
    assert found["smooth"]["lag_s"] > plain["lag_s"] + 0.05 and found["every"]["lag_s"] > plain["lag_s"] + 0.02
    assert found["smooth"]["flicker"] < plain["flicker"] / 2
    # a map of nothing reaches from 0 to 1, unless something else says what 0 and 1 are
    assert plain["absent_peak"] == plain["gone_peak"] == 1 and plain["absent_warm"] > 0.2
    assert found["fixed"]["absent_peak"] < 0.3 and found["running"]["gone_peak"] < 0.3
    assert found["fixed"]["flicker"] < plain["flicker"] / 4


def test_a_mode_is_what_a_stream_gives(moving: moving_scenes.Clip) -> None:
    import fastloc

    mode = tracking.Mode("", smooth=0.1, every=2, maps="running")
    frames = [tracking.frame_of(moving.at(index)) for index in range(12)]
    expected = tracking._worker(tracking.Remembered(Nothing()), moving, ("cat", "pizza"), mode)
    stream = fastloc.stream(iter(frames), ["cat", "pizza"], Nothing(), smooth=0.1, every=2, maps="running", live=False)
    for found, frame in zip(stream, frames, strict=True):
        again = expected.answer(Frame(frame.index, frame.time, 0.0, frame.size, lambda frame=frame: frame.rgb))
        assert (found.result.heatmaps == again.result.heatmaps).all() and found.reused == again.reused == bool(frame.index % 2)


def test_the_heat_follows_what_moves() -> None:
    """The embedded model itself, in a few frames: GEM's peak is on the thing nearly always, and far more often than the raw map's."""
    from fastloc.engine.localizer import Localizer

    drawn = moving_scenes.clip(0, ("cat", "pizza"), seconds=4)
    few = moving_scenes.Clip(0, drawn.size, drawn.times[::8], drawn.background, drawn.actors)
    base, found = Localizer(), {}
    for method in ("gem_calibrated", "itsm"):
        judge = tracking.follow(base.with_method(method), few, ("cat", "pizza", "guitar"), tracking.MODES[:1])["each frame alone"]
        found[method] = tracking.summed([judge])["pointing"]
    assert found["gem_calibrated"] > 0.75 and found["gem_calibrated"] > found["itsm"] + 0.2, found


# what it costs, and the record


def test_costs_are_compared_in_turns() -> None:
    stages = {"decode": 2.0, "convert": 1.0, "locate": 10.0, "draw": 4.0, "encode": 8.0}
    shares = overhead._compared({"model": [10.0, 20.0, 10.0], "stream": [11.0, 22.0, 12.0], "video": [15.0, 30.0, 15.0]}, stages)
    assert shares["stream_over"] == pytest.approx(1.1) and shares["video_over"] == 1.5 and shares["model_fps"] == 100
    assert shares["stream_overlap"] == pytest.approx(1.2) and shares["video_overlap"] == pytest.approx(15 / 12)


def test_a_part_of_costs(clip: tuple[Path, moving_scenes.Clip]) -> None:
    row = {"size": "tiny", "model": "nothing", **overhead.Bench(clip[0], Nothing()).row(0.0)}
    assert row["rounds"] == 3 and all(row[f"{name}_alone_ms"] > 0 for name in ("decode", "convert", "locate", "draw", "encode", "read"))
    part = {"rows": [row], "handed_over": overhead.handed_over(50)}
    assert 0 < part["handed_over"]["engine_us"] < part["handed_over"]["stream_us"] < 20_000
    assert len(overhead.lines(part)) == 5


def test_records_are_kept_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "video.json"
    monkeypatch.setattr(record, "RECORD", path)
    monkeypatch.setattr(record.write, "__defaults__", (path,))
    rows: list[dict[str, Any]] = [{"x": 1.23456789}]
    one = lambda quick, seconds: {"rows": rows, "seconds": seconds}  # noqa: E731
    two = lambda quick, seconds: {"rows": [], "problems": ["it is late"]}  # noqa: E731
    monkeypatch.setattr(soak, "PARTS", {"one": (one, lambda part: ["a line"]), "two": (two, lambda part: [])})
    assert soak.main(["--parts", "one", "--minutes", "2"]) == 0 and not path.exists()
    assert soak.main(["--parts", "one", "--minutes", "2", "--record"]) == 0
    assert soak.main(["--record"]) == 1 and "two: it is late" in capsys.readouterr().out
    parts = json.loads(path.read_text())["parts"]
    assert parts["one"]["rows"] == [{"x": 1.2346}] and parts["one"]["seconds"] == soak.USUAL and set(parts) == {"one", "two"}
    assert all(parts["two"][key] for key in ("commit", "day", "machine", "versions", "threads"))
    with pytest.raises(SystemExit):
        soak.main(["--quick", "--record"])


def test_the_readmes_table() -> None:
    from doc_tables import video as readme_video
    from doc_tables.markdown_table import TableError

    alone = {"method": "gem_calibrated", "mode": "each frame alone", "pointing": 0.9, "questions": 100, "contrast": 0.6, "lag_s": 0.01,
             "flicker": 0.0123, "absent_warm": 0.2, "absent_peak": 1.0, "gone_warm": 0.3, "gone_peak": 1.0}  # fmt: skip
    rows = [alone, {**alone, "mode": "smooth=0.1", "pointing": 0.8}, {**alone, "method": "itsm", "pointing": 0.3}]
    part = {**record.head(), "clips": 2, "seconds": 8.0, "rate": 30, "rows": rows}
    table = readme_video.video_table({"parts": {"tracking": part}})
    assert "| each frame alone | 0.900 | 0.60 | 0.01 | 0.0123 | 20.0 | 30.0 | 1.00 |" in table and "| `smooth=0.1` | 0.800" in table
    assert "`itsm` 0.300" in table and f"commit {part['commit']}" in table and table.count("\n| ") == 3
    case = live_mode.Case("quick", RATE, 0.0)
    live = {**record.head(), **live_mode.run(case, 0.8, warm=0.1, localizer=Nothing())}
    table = readme_video.video_table({"parts": {"live": live}})
    assert table.startswith("- 0.8 s of a camera of 30 frames/s, quick: ") and "open files" in table
    with pytest.raises(TableError):
        readme_video.video_table({"parts": {}})
