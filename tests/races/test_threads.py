"""Sixteen threads on one localizer: every method, size and list of texts, each answer equal to one thread's to the last bit."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloc import Example, OnnxLocalizer
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError
from fastloc.recipes import RECIPES
from fastloc.results.result import Result
from watchdog import clean, dice, in_threads

THREADS, TURNS, SECONDS = 16, 2, 120.0
# (height, width) of pictures, whose own sizes are the model's input
SIZES = ((32, 32), (48, 32), (40, 64), (56, 56))
TEXTS = (["cat"], ["cat", "pizza"], ["red car", "a dog", "tree"], ["cat", "Cat", "pizza"])
# one method of each way that a pass goes, beside those that only differ in a row's numbers
QUICK = ("gem", "clip_surgery", "naclip", "grad_cam", "legrad", "cliper")


@cache
def picture(number: int) -> Image.Image:
    height, width = SIZES[number % len(SIZES)]
    scene = Image.open(SAMPLES / ("market.webp", "garden.webp")[number % 2]).convert("RGB")
    return scene.resize((width, height))


def equal(found: Result, expected: Result) -> None:
    for field in ("similarity", "scores", "image_scores", "limits"):
        one, other = getattr(found, field), getattr(expected, field)
        assert (one is None and other is None) or np.array_equal(one, other), field
    assert (found.texts, found.method, found.geometry) == (expected.texts, expected.method, expected.geometry)


def asked(localizers: dict[str, Any], seed: int) -> list[tuple[str, int, int]]:
    """A thread's questions, (method, picture, texts), in an order of its own."""
    random = dice(seed)
    every = [(name, number, texts) for name in localizers for number in range(len(SIZES)) for texts in range(len(TEXTS))]
    return random.sample(every, min(len(every), TURNS * len(localizers)))


def compare(localizers: dict[str, Any], texts: tuple[list[Any], ...] = TEXTS) -> None:
    """Every thread's answers against those of one thread on localizers of their own."""
    expected: dict[tuple[str, int, int], Result] = {}
    found = in_threads(
        [lambda seed=seed: [(key, localizers[key[0]](picture(key[1]), texts[key[2]])) for key in asked(localizers, seed)]
         for seed in range(THREADS)], SECONDS,
    )  # fmt: skip
    for key, result in [each for part in found for each in part]:
        if key not in expected:
            expected[key] = localizers[key[0]](picture(key[1]), texts[key[2]])
        equal(result, expected[key])


@pytest.fixture
def one_thread_a_pass() -> Any:
    """Passes of one thread each: sixteen teams on a few cores would wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def runs(name: str) -> bool:
    from fastloc import Localizer

    try:
        Localizer(method=name, size=32, device="cpu")
    except FastlocError:
        return False
    return True


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.slow("sixteen threads on every method", quick=1)
@pytest.mark.parametrize("name", dict.fromkeys([*QUICK, *RECIPES]))
def test_threads_answer_as_one_does(name: str) -> None:
    """A localizer that nothing was asked of yet: its first texts, tables and passes are made by all threads at once."""
    from fastloc import Localizer

    if not runs(name):
        pytest.skip("the embedded model lacks a part of it")
    with clean():
        compare({name: Localizer(method=name, fit="own", size=32, device="cpu")})


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.slow("sixteen threads on many methods")
def test_methods_of_one_model_side_by_side() -> None:
    """They share towers, texts and the queue; each thread also makes methods of its own."""
    from fastloc import Localizer

    usual = Localizer(fit="own", size=32, device="cpu")
    names = [name for name in QUICK if runs(name)]

    def made(seed: int) -> dict[str, Any]:
        return {name: usual.with_method(name, fit="own") for name in dice(seed).sample(names, len(names))}

    for each in in_threads([lambda seed=seed: made(seed) for seed in range(THREADS)], SECONDS)[:2]:
        compare(each)


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.slow("sixteen threads make localizers")
def test_threads_that_choose_the_trained_method_at_once_share_its_tower() -> None:
    from fastloc import Localizer

    for _ in range(3):
        usual = Localizer(size=32, device="cpu")
        made = in_threads([lambda usual=usual: usual.with_method("eclip")] * THREADS, SECONDS)
        assert len({id(each.source) for each in made}) == 1 and len({id(each.tower) for each in made}) == 1
        found = in_threads([lambda each=each: each(picture(0), ["cat", "pizza"]) for each in made], SECONDS)
        alone = Localizer(method="eclip", size=32, device="cpu")(picture(0), ["cat", "pizza"])
        for each in found:
            equal(each, alone)


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.slow("sixteen threads on examples", quick=1)
def test_examples_and_submitted_pictures() -> None:
    from fastloc import Localizer

    example = Example(SAMPLES / "garden.webp", (10, 10, 80, 80), name="that")
    localizer = Localizer(size=48, device="cpu")
    expected = {number: Localizer(size=48, device="cpu")(picture(number), [example, "cat"]) for number in range(len(SIZES))}

    def one(seed: int) -> list[tuple[int, Result]]:
        numbers = [dice(seed + turn).randrange(len(SIZES)) for turn in range(TURNS)]
        handles = [localizer.submit(picture(number), [example, "cat"]) for number in numbers]
        return [(number, handle.result()) for number, handle in zip(numbers, handles, strict=True)]

    for number, result in [each for part in in_threads([lambda seed=seed: one(seed) for seed in range(THREADS)], SECONDS) for each in part]:
        equal(result, expected[number])


@pytest.mark.slow("sixteen threads on an exported file", quick=1)
@pytest.mark.parametrize("providers", ["cpu", "openvino"])
def test_threads_on_an_exported_file(providers: str) -> None:
    pytest.importorskip("onnxruntime" if providers == "cpu" else "openvino")
    pytest.importorskip("tokenizers")
    localizer = OnnxLocalizer(providers=providers, threads=1, size=48)
    with clean():
        compare({"gem": localizer})


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.slow("sixteen threads on one result")
def test_threads_read_one_result() -> None:
    """Maps, points and boxes are made at their first use, by whoever comes first."""
    from fastloc import Localizer

    localizer = Localizer(size=48, device="cpu")
    for turn in range(4):
        shared, alone = (localizer(picture(turn), ["cat", "pizza"]) for _ in range(2))
        reads = (lambda each: each.heatmaps, lambda each: each.points(), lambda each: each.boxes(), lambda each: each.labels())
        found = in_threads([lambda read=reads[number % 4], shared=shared: read(shared) for number in range(THREADS)], SECONDS)
        for number, value in enumerate(found):
            expected = reads[number % 4](alone)
            assert np.array_equal(value, expected) if isinstance(value, np.ndarray) else value == expected


@pytest.mark.usefixtures("one_thread_a_pass")
@pytest.mark.parametrize("traced", [True, False])
def test_threads_on_a_classifier(traced: bool) -> None:
    """A network that cannot be traced gets a hook for a pass: of one thread, the others' passes do not run into it."""
    import torch
    from torch import nn

    from fastloc import CnnLocalizer

    class Network(nn.Sequential):
        """Small, and with a branch on values unless it is to be traced."""

        def forward(self, pixels: Any) -> Any:
            return super().forward(pixels if traced or float(pixels.sum()) < 1e9 else -pixels)

    torch.manual_seed(0)
    network = Network(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    made = [CnnLocalizer(network, categories=["cat", "pizza", "car"], size=48, device="cpu", layer="2") for _ in range(2)]
    assert made[0].split.hooked is not traced
    alone = {number: made[1](picture(number), ["cat", "car"]) for number in range(len(SIZES))}

    def one(seed: int) -> list[tuple[int, Result]]:
        numbers = [dice(seed * 100 + turn).randrange(len(SIZES)) for turn in range(12)]
        return [(number, made[0](picture(number), ["cat", "car"])) for number in numbers]

    for number, result in [each for part in in_threads([lambda seed=seed: one(seed) for seed in range(THREADS)], SECONDS) for each in part]:
        equal(result, alone[number])
