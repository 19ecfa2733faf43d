"""Clients of a service in a closed loop: each sends its next request when it has the answer to the last, and every answer is checked."""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

Row = dict[str, Any]
# seconds that an answer may take before it counts as failed
PATIENCE = 60.0
# pixels that a peak may lie off, and what a value may differ by, of the same picture in another batch
PEAK, VALUE = 8, 2e-3
SAMPLED = 0.25
# of `fastloc serve`: pictures that wait or are worked on; pictures and batches so far
QUEUE, PICTURES, BATCHES = "fastloc_queue_pictures", "fastloc_batch_pictures_sum", "fastloc_batch_pictures_count"


@dataclass
class Asked:
    """A request's JPEG and what a localizer in this process answers to it: (text, x, y, value) of each text."""

    content: bytes
    answer: list[tuple[str, int, int, float]]


@dataclass
class Seen:
    """The answers that came back."""

    ms: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: int = 0
    failed: int = 0
    why: str = ""
    # metrics over time
    metrics: list[dict[str, float]] = field(default_factory=list)


def answer_of(result: dict[str, Any]) -> list[tuple[str, int, int, float]]:
    """The peaks of `Result.to_dict`."""
    return [(row["text"], row["peak"]["x"], row["peak"]["y"], row["peak"]["value"]) for row in result["texts"]]


def same(found: Sequence[tuple[str, int, int, float]], expected: Sequence[tuple[str, int, int, float]]) -> bool:
    return len(found) == len(expected) and all(
        one[0] == other[0] and max(abs(one[1] - other[1]), abs(one[2] - other[2])) <= PEAK and abs(one[3] - other[3]) <= VALUE
        for one, other in zip(found, expected, strict=True)
    )


async def load(url: str, clients: int, seconds: float, asked: Sequence[Asked], texts: Sequence[str], watched: bool = False) -> Row:
    """Load of so many clients for so long; the row holds answers a second, their times and their errors.

    watched: read the server's metrics meanwhile.
    """
    seen = Seen()
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE, limits=httpx2.Limits(max_connections=clients + 1)) as client:
        await _ask(client, asked[0], texts, Seen())
        began = time.perf_counter()
        until = began + seconds
        watch = asyncio.create_task(_watch(client, seen)) if watched else None
        await asyncio.gather(*(_client(client, number, until, asked, texts, seen) for number in range(clients)))
        took = time.perf_counter() - began
        if watch:
            watch.cancel()
    return {"clients": clients, "seconds": took, **summed(seen, took)}


async def _client(client: httpx2.AsyncClient, number: int, until: float, asked: Sequence[Asked], texts: Sequence[str], seen: Seen) -> None:
    turn = number
    while time.perf_counter() < until:
        again = await _ask(client, asked[turn % len(asked)], texts, seen)
        turn += 1
        if again:
            await asyncio.sleep(min(again, max(0.0, until - time.perf_counter())))


async def _ask(client: httpx2.AsyncClient, one: Asked, texts: Sequence[str], seen: Seen) -> float:
    """One request; the seconds that the server asks to wait."""
    began = time.perf_counter()
    try:
        response = await client.post("/v1/locate", files={"image": ("picture.jpg", one.content, "image/jpeg")}, data={"texts": list(texts)})
        if response.status_code == 429:
            seen.refused += 1
            return float(response.headers.get("retry-after", 1))
        response.raise_for_status()
        found = answer_of(response.json()["results"][0])
    except (httpx2.HTTPError, KeyError, IndexError, ValueError) as error:
        seen.failed += 1
        seen.why = f"{type(error).__name__}: {error}"[:200]
        # not to spin where nothing listens
        return 0.1
    seen.ms.append(1000 * (time.perf_counter() - began))
    seen.wrong += not same(found, one.answer)
    return 0.0


async def _watch(client: httpx2.AsyncClient, seen: Seen) -> None:
    while True:
        with suppress(httpx2.HTTPError):
            seen.metrics.append(metrics((await client.get("/metrics")).text))
        await asyncio.sleep(SAMPLED)


def metrics(text: str) -> dict[str, float]:
    """Values by name, from Prometheus' text format; those that have labels are summed."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def summed(seen: Seen, seconds: float) -> Row:
    row: Row = {"answers": len(seen.ms), "refused": seen.refused, "wrong": seen.wrong, "failures": seen.failed, "why": seen.why or None,
                "rate": len(seen.ms) / seconds}  # fmt: skip
    if seen.ms:
        row |= {f"p{q}_ms": float(np.percentile(seen.ms, q)) for q in (50, 95, 99)}
    queue = [one[QUEUE] for one in seen.metrics if QUEUE in one]
    if queue:
        row |= {"queue_mean": float(np.mean(queue)), "queue_most": max(queue)}
        pictures, batches = (seen.metrics[-1].get(name, 0.0) - seen.metrics[0].get(name, 0.0) for name in (PICTURES, BATCHES))
        row["batch_mean"] = pictures / batches if batches else None
    return row
