"""The clients and a real service: the same results as where the model runs."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from fastloc import AsyncClient, Client, Localizer, Result
from fastloc.embedded import SAMPLES
from fastloc.errors import ServiceError
from fastloc.serve.app import application
from fastloc.serve.settings import Settings
from same_results import same
from service import serving

PICTURES = sorted(SAMPLES.glob("*.webp"))
TEXTS = ["red car", "pizza", "cat", "pizza"]


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def client(localizer: Localizer) -> Iterator[Client]:
    with serving(localizer, methods=("clearclip",), pixels=400_000) as address, Client(address) as made:
        yield made


def test_the_result_is_the_local_one_in_every_field(client: Client, localizer: Localizer) -> None:
    found, expected = client(PICTURES[0], TEXTS), localizer(PICTURES[0], TEXTS)
    same(found, expected)
    assert found.points() == expected.points() and found.boxes(0.4, score=0.5) == expected.boxes(0.4, score=0.5)
    assert found.to_dict() == expected.to_dict()
    assert np.array_equal(found.heatmaps, expected.heatmaps)


def test_a_turned_picture_lies_as_the_local_one_does(client: Client, localizer: Localizer, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    Image.open(PICTURES[1]).convert("RGB").save(file, quality=95, exif=exif)
    found = client(file, "sunflower")
    same(found, localizer(file, "sunflower"))
    assert found.picture.size == Image.open(file).size[::-1]


def test_several_pictures_by_another_method(client: Client, localizer: Localizer) -> None:
    every = [*PICTURES, np.asarray(Image.open(PICTURES[0]).convert("RGB").crop((0, 0, 90, 70)))]
    expected = localizer.with_method("clearclip")(every, TEXTS)
    # pictures that share a pass differ in the last bits from those that do not
    for one, other in zip(client(every, TEXTS, "clearclip"), expected, strict=True):
        same(one, other, 1e-5)


def test_models_and_ready(client: Client, localizer: Localizer) -> None:
    assert [(each.name, each.method) for each in client.models()] == [(localizer.source.name, "gem"), (localizer.source.name, "clearclip")]
    assert client.ready()


@pytest.mark.parametrize(
    ("size", "texts", "method", "line"),
    [((900, 600), ["cat"], None, "at most max_pixels = 400,000"), ((9, 9), ["cat"], "gmm", "unknown method 'gmm'"),
     ((9, 9), ["cat"] * 65, None, "answers 413: ")],
)  # fmt: skip
def test_what_the_service_refuses(client: Client, size: tuple[int, int], texts: list[str], method: str | None, line: str) -> None:
    with pytest.raises(ServiceError) as raised:
        client(Image.new("RGB", size), texts, method)
    assert line in str(raised.value) and "\n" not in str(raised.value)


def test_of_several_pictures_the_refused_one_is_named(client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (900, 600)).save(large)
    with pytest.raises(ServiceError, match=r"large\.png: http.* answers 422: image: must have at most max_pixels"):
        client([*PICTURES, large], "cat")


def test_a_token_lets_in_and_a_wrong_one_does_not(localizer: Localizer) -> None:
    with serving(localizer, "correct-horse-battery") as address:
        with Client(address, "correct-horse-battery") as client:
            same(client(PICTURES[0], TEXTS), localizer(PICTURES[0], TEXTS))
        for token in ("", "correct-horse-bakery"):
            with Client(address, token) as client, pytest.raises(ServiceError, match=r"answers 401: .*; give the token that") as raised:
                client(PICTURES[0], TEXTS)
            assert not token or token not in str(raised.value)


def test_the_awaited_client_waits_for_room(localizer: Localizer) -> None:
    async def found() -> list[Result]:
        # of eight at once the service refuses most with 429
        transport = httpx2.ASGITransport(app=application(localizer, Settings(queue=2)))
        async with AsyncClient("http://service.test", transport=transport, retries=30) as ask:
            assert await ask.ready()
            return await ask([PICTURES[0]] * 8, TEXTS)

    expected = localizer(PICTURES[0], TEXTS)
    for one in asyncio.run(found()):
        same(one, expected, 1e-5)
