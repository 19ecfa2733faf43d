"""The scale benchmark: what it computes of times, answers and memory, its cost model, and a page that is its record's."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

import scale
from doc_tables import page
from doc_tables import scale as tables
from scale_parts import budget, cost, growth, load, pictures, processes, record, service, throughput

FACTS = {"run": "20260101-000000", "device": "d", "processor": "d", "cores": 2, "python": "3", "load_before": 0.1, "commit": "c",
         "versions": {}}  # fmt: skip


# the page


def test_the_page_is_its_record_s() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    content = tables.record.RECORD.read_text(encoding="utf-8")
    assert sorted(block["name"] for block in page.BLOCK.finditer(text)) == sorted(tables.TABLES)
    assert tables.filled(text, content) == text, "run `python benchmarks/docs.py`"


def rows() -> list[dict[str, Any]]:
    """A record of round numbers: decoding takes 20 ms, the model of 100 GFLOP 80 ms."""
    both = {"model": "ViT-B-16", "weights": "random", "texts": 3, "batch": 4, "picture": [1000, 1000], **FACTS}
    batch = {"rows": 300, "row_bytes": 500_000, "pictures": 100, "wall_s": 20.0, "start_s": 10.0, "peak_mb": 900.0, "rows_sha256": "a"}
    levels = {"answers": 90, "refused": 2, "wrong": 0, "failures": 0, "p50_ms": 50.0, "p95_ms": 60.0, "p99_ms": 70.0, "peak_mb": 500.0}
    return [
        {**both, "part": "process", "contender": "model alone", "round": 0, "steady": 12.5, "gflop": 100.0, "wall_s": 5.0,
         "peak_mb": 800.0},
        *({**both, **batch, "part": "process", "contender": "one process", "round": i, "steady": (9.0, 10.0, 12.0)[i]} for i in range(3)),
        {**both, **batch, "part": "ray", "contender": "Ray, 2 actors", "round": 0, "steady": 9.0,
         "rows_sha256": "b"},
        {**both, "part": "loop", "contender": "plain loop", "round": 0, "failed": "exit status 1: no"},
        {**both, "part": "stages", "contender": "with masks", "round": 0, "bits_per_pixel": 2.0, "decode_ms": 20.0, "preprocess_ms": 5.0,
         "model_ms": 60.0, "readout_ms": 10.0, "write_ms": 5.0},
        {**both, **levels, "part": "serve", "contender": "fastloc serve", "round": 0, "clients": 4, "rate": 30.0, "queue_most": 4.0},
        {**both, "part": "growth", "contender": "one process", "round": 0, "of": 1000, "pictures": 500, "rows": 1000, "complete": False,
         "rate": 70.0, "memory_slope": 0.001, "memory_slope_error": 0.002, "shard_time_slope": 0.01, "shard_time_slope_error": 0.02,
         "peak_mb": 700.0},
    ]  # fmt: skip


def test_tables_say_what_was_measured_and_what_failed(tmp_path: Path) -> None:
    record.write(tmp_path / "r.jsonl", rows())
    text = "".join(f"<!-- table: {name} -->\n<!-- end -->\n" for name in tables.TABLES)
    content = (tmp_path / "r.jsonl").read_text(encoding="utf-8")
    made = tables.filled(text, content)
    assert "| ViT-B-16 | one process | 10 (9 … 12) | 0.8 | 1 | 5 | 10 | 900 | the same | 3 |" in made
    assert "| ViT-B-16 | Ray, 2 actors | 9 | 0.72 | 0.9 | 5 | 10 | 900 | differ | 1 |" in made
    assert "| ViT-B-16 | plain loop | exit status 1: no |" in made
    assert "| ViT-B-16 | with masks | 20 (20 %) | 5 (5 %) | 60 (60 %) | 10 (10 %) | 5 (5 %) | 100 |" in made
    assert "| fastloc serve | 4 | 30 | 50 | 60 | 70 | 4 |  | 90 | 0 | 0 | 2 | 500 |" in made
    assert "| 500 | stopped, of 1000 | 1000 | 70 | +0.001 ± 0.002 | +0.01 ± 0.02 | 700 |" in made
    # the page does not change when it is made again, and an empty record has no numbers
    assert tables.filled(made, content) == made
    assert "## " not in tables.filled(text, "") and "one process" not in tables.filled(text, "")


# the cost model


def test_the_slower_of_the_cores_and_the_model_bounds_a_machine() -> None:
    known = cost.measured(rows(), "ViT-B-16")
    assert known == cost.Measured("ViT-B-16", 20.0, 40.0, 100.0, 10.0, 2, 250_000.0, 5000.0) and cost.measured(rows(), "embedded") is None
    processor = cost.cost(cost.Device("p", 16, 1.0, 0), known)
    assert (processor.rate, processor.bound, processor.hours(288_000), processor.money(288_000)) == (80.0, "processor", 1.0, 1.0)
    # 4 cores do all but the model for 100 a second; a GPU of 100 TFLOP/s locates in 1000 x its utilisation
    few = cost.cost(cost.Device("g", 4, 2.0, 100), known)
    assert (few.rate, few.bound) == (100.0, "host") and few.money(360_000) == pytest.approx(2.0)
    many = cost.cost(cost.Device("g", 64, 2.0, 100), known)
    assert (many.rate, many.bound) == (pytest.approx(1000 * cost.UTILISATION), "model")
    assert cost.egress(1e9, known) == pytest.approx(250_000 * cost.EGRESS) and cost.storage(1e9, known)[0] == pytest.approx(5000)
    table = tables.devices(rows())
    assert "prediction" in table and table.count("| measured |") == 1 and all(device.name in table for device in cost.DEVICES)


# what is computed of times


def test_the_rate_is_that_of_a_run_under_way() -> None:
    # two workers that commit side by side: 16 pictures every two seconds
    assert throughput.rate([12.0, 12.0, 14.0, 14.0, 16.0, 16.0], 8, 2)["steady"] == 8.0
    assert throughput.rate([3.0, 4.0, 5.0], 8)["steady"] == 8.0
    assert throughput.rate([3.0], 8)["steady"] is None
    unit = throughput.shard_size(0.001, 1.0)
    assert throughput.shard_size(1e9, 60.0) % unit == 0 and throughput.shard_size(1e9, 60.0) > unit


def test_what_grows_is_distinguished_from_what_does_not() -> None:
    random = np.random.default_rng(0)
    steady, slower = np.cumsum(1 + 0.05 * random.random(200)), np.cumsum(1 + 0.05 * random.random(200) + np.arange(200) / 1000)
    samples = [(float(at), 500 + random.random()) for at in range(200)]
    flat = growth.slopes(list(steady), 10, samples)
    leaking = growth.slopes(list(slower), 10, [(at, mb + at) for at, mb in samples])
    for name in ("memory", "shard_time"):
        assert abs(flat[f"{name}_slope"]) < 4 * flat[f"{name}_slope_error"]
        assert leaking[f"{name}_slope"] > 10 * leaking[f"{name}_slope_error"]
    # a thousandth more of a second for each shard of 10 pictures: a tenth more over 1000, of shards that then take 1.1
    assert leaking["shard_time_slope"] == pytest.approx(100 * 0.1 / 1.14, rel=0.1) and flat["pictures"] == 2000


def test_rounds_end_with_their_time() -> None:
    ran = []
    for number, job in budget.rounds((0.0, 0.05), budget.Budget(0.12)):
        ran.append((number, job))
        time.sleep(job)
    assert ran[:2] == [(0, 0.0), (0, 0.05)] and sum(job == 0.05 for _, job in ran) <= 3
    # all run once, however late it is
    assert [job for _, job in budget.rounds("ab", budget.Budget(-1))] == ["a", "b"]


# pictures


def test_pictures_are_the_same_again_and_as_heavy_as_photographs(tmp_path: Path) -> None:
    one = pictures.write(tmp_path / "a", 5, (270, 480), distinct=2)
    other = pictures.write(tmp_path / "b", 2, (270, 480))
    assert [path.read_bytes() for path in one] == [other[i % 2].read_bytes() for i in range(5)]
    assert other[0].read_bytes() != other[1].read_bytes()
    # what cameras write in the usual quality
    assert 1.5 < pictures.bits_per_pixel(other, (270, 480)) < 4


# a service


class Service:
    """Answers that are right but for every third one, and every fifth request refused."""

    def __init__(self, right: list[Any]) -> None:
        self.right, self.count = right, itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/metrics":
            await self.answer(send, 200, 'fastloc_queue_pictures 3\nfastloc_batch_pictures_sum{a="b c"} 1\n')
            return
        while (await receive()).get("more_body"):
            pass
        number = next(self.count)
        if number % 5 == 0:
            await self.answer(send, 429, "{}", [(b"retry-after", b"0")])
            return
        texts = ",".join(f'{{"text": "{text}", "peak": {{"x": {x + 100 * (number % 3 == 0)}, "y": {y}, "value": {value}}}}}'
                         for text, x, y, value in self.right)  # fmt: skip
        await self.answer(send, 200, f'{{"results": [{{"texts": [{texts}]}}]}}')

    async def answer(self, send: Any, status: int, body: str, headers: Any = ()) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body.encode()})


@pytest.fixture
def address() -> Iterator[str]:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(Service([("cat", 3, 4, 1.0)]), port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_clients_count_answers_that_are_wrong_and_requests_that_are_refused(address: str) -> None:
    row = asyncio.run(load.load(address, 4, 0.5, [load.Asked(b"jpeg", [("cat", 3, 4, 1.0)])], ["cat"], watched=True))
    every = row["answers"] + row["refused"]
    assert row["answers"] > 20 and row["failures"] == 0 and abs(row["refused"] - every / 5) < 3
    # every third request, but for those that are refused
    assert abs(row["wrong"] - every * 4 / 15) < 4 and row["p50_ms"] <= row["p99_ms"] and row["queue_most"] == 3.0
    nobody = asyncio.run(load.load("http://127.0.0.1:9", 2, 0.3, [load.Asked(b"", [])], ["cat"]))
    assert nobody["answers"] == 0 and nobody["failures"] > 0 and "ConnectError" in nobody["why"]


def test_an_answer_is_the_same_within_its_limits() -> None:
    right = [("cat", 3, 4, 1.0), ("dog", 50, 60, 0.5)]
    assert load.same([("cat", 5, 4, 1.001), ("dog", 50, 58, 0.5)], right)
    for wrong in ([right[0]], [right[1], right[0]], [("cat", 30, 4, 1.0), right[1]], [("cat", 3, 4, 0.9), right[1]]):
        assert not load.same(wrong, right)


# processes


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    server = service.Server("s", "serve", ("sh", "-c", "echo no port for you >&2; exit 3"))
    with pytest.raises(processes.CommandError, match="did not start: no port for you"), service.served(server, tmp_path / "log"):
        pass
    with processes.started(("sh", "-c", "sleep 60 & sleep 60"), tmp_path / "log") as process:
        until = time.monotonic() + 10
        while len(processes.tree(process.pid)) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        all_of_it = processes.tree(process.pid)
        assert len(all_of_it) == 3 and processes.resident_mb(process.pid) > 0
    time.sleep(0.1)
    assert not [pid for pid in all_of_it if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_bad_options_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in ((["--parts", "ray,rai"], "got rai"), (["--minutes", "0"], "above 0"), (["--quick", "-o", "x"], "quick")):
        with pytest.raises(SystemExit):
            scale.main(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.slow("runs the commands")
def test_every_part_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--quick", "--parts", "process,serve,stages,growth", "--seconds", "0.5"]) == 0, capsys.readouterr().out
