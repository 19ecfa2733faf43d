"""Clocks that jump: the time of day counts for nothing, and a machine that has slept for days goes on."""

from __future__ import annotations

import ast
import asyncio
import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc.runtime import choice
from fastloc.web_server.attempts import Attempts
from fastloc.web_server.rate import Rate
from repo import REPO

DAYS = 3 * 86400.0
# seconds; what does not hang takes a fraction of one
PATIENCE = 10
# what reads the time of day, and why: nothing waits for it
ALLOWED = {"fastloc/bench/run.py": "the name of a run", "fastloc/runtime/fastest.py": "the day of a measurement"}
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "datetime.date.today", "date.today"}


def test_no_duration_is_measured_by_the_time_of_day() -> None:
    paths = [*(REPO / "fastloc").rglob("*.py"), *(REPO / "export").rglob("*.py")]
    texts = {path.relative_to(REPO).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    found = {
        name for name, text in texts.items() if any(each in text for each in WALL) for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Call, ast.Attribute)) and ast.unparse(node.func if isinstance(node, ast.Call) else node) in WALL
    }  # fmt: skip
    assert found == set(ALLOWED)


@pytest.fixture(params=[-DAYS, DAYS], ids=["back", "forth"])
def leaping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day leaps by days at each look."""
    usual, looks = time.time, itertools.count(1)
    monkeypatch.setattr(time, "time", lambda: usual() + next(looks) * request.param)


def test_live_video_and_services_do_not_look_at_the_time_of_day(leaping: None) -> None:
    from fastloc.serve.batcher import Batcher
    from fastloc.video.pipeline import Pipeline

    localizer: Any = _localizer()

    async def main() -> None:
        batcher = Batcher(8, 0.02, lambda size: None)
        try:
            for _ in range(3):
                found = batcher.locate(localizer, [Image.new("RGB", (64, 48))], ["cat"])
                assert await asyncio.wait_for(found, PATIENCE) == ["result"]
        finally:
            batcher.close()

    asyncio.run(main())
    with Pipeline(["cat"], localizer, policy="every") as pipeline:
        ages = [pipeline.submit(np.zeros((48, 64, 3), np.uint8)).result(PATIENCE).age for _ in range(3)]
    assert all(0 <= age < PATIENCE for age in ages)


def _localizer() -> Any:
    from fastloc.imaging.geometry import fit
    from fastloc.results.result import Result

    class Localizer:
        method, batch = "stand-in", 8

        def __call__(self, picture: Image.Image, texts: Any) -> Any:
            geometry = fit(picture.size[::-1], (48, 64), 8)
            return Result(picture=picture, texts=tuple(texts), similarity=np.zeros((len(texts), 6, 8), np.float32), geometry=geometry,
                          order="picture")  # fmt: skip

        def locate(self, pictures: Any, texts: Any, names: Any) -> list[Any]:
            return ["result" for _ in pictures]

        def place(self, picture: Image.Image) -> Any:
            return SimpleNamespace(input=(48, 64))

        def encode_texts(self, texts: Any) -> Any:
            return tuple(texts)

    return Localizer()


@pytest.mark.parametrize("day", ["1970-01-01", "2999-12-31"])
def test_a_choice_of_any_day_is_kept(day: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "user_cache", lambda: tmp_path)
    made = choice.Choice(choice.FORMAT, "a" * 24, "m", "p", {}, day, (choice.Timed("cpu", 1, 1.0, 3),))
    choice.keep(made)
    assert choice.kept("a" * 24) == made


@pytest.mark.parametrize("leap", [-DAYS, DAYS], ids=["back", "forth"])
def test_a_rate_allows_its_burst_after_a_leap_and_no_more(leap: float) -> None:
    now = [1000.0]
    rate = Rate(2.0, burst=4, clock=lambda: now[0])
    assert [rate.allows() for _ in range(5)] == [True] * 4 + [False]
    now[0] += leap
    allowed = sum(rate.allows() for _ in range(100))
    assert allowed == (4 if leap > 0 else 0)
    # from there on the clock counts as ever
    now[0] += 1.0
    assert [rate.allows() for _ in range(3)] == [True, True, False]


def test_wrong_tokens_are_not_locked_out_for_days_by_a_clock_that_is_set_back() -> None:
    now = [1000.0]
    attempts = Attempts(clock=lambda: now[0])
    for _ in range(10):
        attempts.failed("192.0.2.1")
    before = attempts.wait("192.0.2.1")
    now[0] -= DAYS
    assert 0 < attempts.wait("192.0.2.1") <= before


def test_a_film_goes_on_after_a_sleep_of_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown from where it was: the frames of the days that nobody saw are not made up for."""
    from fastloc.live import broadcast
    from live_client import Film

    leap = [0.0]
    monkeypatch.setattr(broadcast, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + leap[0]))
    films: list[Film] = []

    def opened() -> Film:
        films.append(Film(count=5, rate=100))
        return films[-1]

    offered: list[float] = []
    hub = broadcast.Broadcast(opened, 1000)
    outbox = SimpleNamespace(say=lambda **words: None)
    session: Any = SimpleNamespace(offer=lambda waiting: offered.append(waiting.frame.time), outbox=outbox)
    hub.add(session)
    try:
        _until(lambda: len(offered) >= 3)
        leap[0] = DAYS
        _until(lambda: len(offered) >= 12)
    finally:
        hub.close()
    assert hub.problem == "" and offered == sorted(offered) and offered[-1] < 2
    assert len(films) < 60, "no film is run through again and again to make up for days"


def _until(so: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < end
        time.sleep(0.005)
