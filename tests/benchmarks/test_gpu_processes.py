"""The GPU script's processes and its timing: turns, deadlines, a process that dies and a device that is lost."""

import contextlib
import os
import time
import types
from typing import Any

import pytest
import torch

from gpu_parts import fleet, frames, timing

CPU = torch.device("cpu")

HEAD = {"device": "a CPU", "capability": None, "driver": None, "torch": "t", "triton": "t", "cuda": None, "python": "p", "commit": "c",
        "code": "x"}  # fmt: skip


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> timing.Call:
        def run(index: int) -> None:
            order.append(name)
            time.sleep(seconds)

        return run

    running = {"slow": timing.warmed(call("slow", 0.01), CPU), "fast": timing.warmed(call("fast", 0.001), CPU)}
    order.clear()
    count = timing.rounds(running, CPU, 60.0, most=4, sample=0.0)
    # one call each finds out how long it takes
    assert count == 4 and order == ["slow", "fast"] * 5
    fields = {name: timing.fields(each) for name, each in running.items()}
    assert fields["slow"]["ms_p20"] <= fields["slow"]["ms"] <= fields["slow"]["ms_p80"] <= fields["slow"]["ms_p99"]
    assert fields["slow"]["rounds"] == fields["slow"]["calls"] == 4
    # a sleep is never shorter than it is asked for
    assert fields["slow"]["ms"] >= 10 and fields["fast"]["ms"] >= 1


def test_what_cannot_run_drops_out_and_says_why() -> None:
    def full(index: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB\nand more")

    running = {"large": timing.warmed(full, CPU), "small": timing.warmed(lambda i: i, CPU)}
    timing.rounds(running, CPU, 0.0, least=2)
    assert timing.fields(running["large"]) == {"ms": None, "failed": "OutOfMemoryError: CUDA out of memory. Tried to allocate 1 TiB"}
    assert timing.fields(running["small"])["rounds"] == 2


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU as far as processes go."""
    for name in ("set_device", "synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *arguments: None)
    return torch.device("cuda", 0)


def test_a_process_that_dies_costs_one_item(pretended: torch.device) -> None:
    def work(item: int) -> int:
        if item == 2:
            os._exit(9)
        if item == 5:
            raise ValueError("five\nand more")
        return item * 10

    found = dict(fleet.spread([[1, 2, 3], [4, 5, 6]], work, pretended, time.monotonic() + 600))
    assert {item: found[item] for item in (1, 3, 4, 6)} == {1: 10, 3: 30, 4: 40, 6: 60}
    assert found[2] == fleet.Failure("its process ended with code 9") and found[5] == fleet.Failure("ValueError: five")


def test_a_lost_device_is_not_blamed_on_the_next_item(pretended: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[int] = []

    def synchronize(*arguments: object) -> None:
        if broken:
            raise RuntimeError("an illegal memory access")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)

    def work(item: int) -> int:
        if item == 1:
            broken.append(item)
            raise RuntimeError("an illegal memory access")
        return item

    found = dict(fleet.spread([[0, 1, 2, 3]], work, pretended, time.monotonic() + 600))
    assert found == {0: 0, 1: fleet.Failure("RuntimeError: an illegal memory access"), 2: 2, 3: 3}


def test_processes_end_at_the_deadline(pretended: torch.device) -> None:
    began = time.monotonic()
    found = dict(fleet.spread([["quick", "slow"]], lambda item: time.sleep(60 if item == "slow" else 0), pretended, began + 1.5))
    assert found == {"quick": None} and time.monotonic() - began < 20
    assert "over its limit" in fleet.isolated(lambda: time.sleep(60), 0.5)
    assert fleet.isolated(lambda: os._exit(3), 10) == "its process ended with code 3"
    assert fleet.isolated(lambda: None, 10) == ""


@pytest.fixture
def stood_in(pretended: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A GPU as far as events, streams and graphs go: whatever is captured is noted, and replayed by the host."""

    class Event:
        def __init__(self, enable_timing: bool = False) -> None:
            self.at = 0.0

        def record(self, *arguments: object) -> None:
            self.at = time.perf_counter()

        def synchronize(self) -> None: ...

        def elapsed_time(self, other: "Event") -> float:
            return 1000 * (other.at - self.at)

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    stands_in = {
        "Event": Event, "Stream": lambda *arguments: stream, "current_stream": lambda *arguments: stream,
        "stream": lambda *arguments: contextlib.nullcontext(), "graph": lambda *arguments: contextlib.nullcontext(),
        "CUDAGraph": lambda: types.SimpleNamespace(replay=lambda: None), "memory_allocated": lambda *arguments: 1_000_000,
        "max_memory_allocated": lambda *arguments: 3_000_000, "reset_peak_memory_stats": lambda *arguments: None,
    }  # fmt: skip
    for name, one in stands_in.items():
        monkeypatch.setattr(torch.cuda, name, one)
    return pretended


def test_a_gpu_is_timed_by_its_events(stood_in: torch.device) -> None:
    calls: list[int] = []
    contender = timing.warmed(calls.append, stood_in)
    assert contender.working_mb == 2.0 and calls == [0, 1, 2]
    timing.rounds({"": contender}, stood_in, 0.0, least=2, sample=0.0)
    assert timing.fields(contender)["rounds"] == 2 and len(calls) == 6
    captured = timing.graphed(calls.append, stood_in, 4)
    # three calls before the capture, and four within it
    assert calls[6:] == [0, 1, 2, 0, 1, 2, 3] and captured(0) == [None] * 4 and len(calls) == 13


def test_a_lost_device_ends_the_part(stood_in: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    with pytest.raises(timing.Broken, match=r"after RuntimeError: CUDA error: .* encountered: RuntimeError"):
        timing.warmed(lambda i: monkeypatch.setattr(torch.cuda, "synchronize", lost), stood_in)


def test_frames_of_two_lanes_come_back_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    got: list[int] = []

    class Lane:
        def __init__(self, device: torch.device) -> None:
            self.under_way: list[int] = []

        def upload(self, frame: Any) -> torch.Tensor:
            assert not self.under_way, "the buffers are in use"
            sent.append(int(frame[0]))
            return torch.from_numpy(frame)

        def download(self, grids: torch.Tensor) -> Any:
            self.under_way.append(int(grids[0, 0]))
            return types.SimpleNamespace(synchronize=lambda: None)

        def downloaded(self) -> None:
            got.append(self.under_way.pop())

    monkeypatch.setattr("fastloc.engine.async_queue.StagingBuffers", Lane)
    inputs = [torch.full((1, 3), float(i)) for i in range(4)]
    assert len(frames._streamed(CPU, inputs, lambda frame: frame, 0.0)) == 5
    assert len(sent) == 8 * 20 and got == sent[:-2]
    sent.clear(), got.clear()
    frames._latencies(frames._through(CPU, inputs, lambda frame: frame), 0.0)
    assert sent == got == [0, 1, 2, 3] * 2
