"""Everything public that a user may send to a worker pickles, or says in one line that it does not."""

import ast
import copy
import importlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastloc
from fastloc import errors
from fastloc.errors import FastlocError
from fastloc.imaging.example import Example
from fastloc.imaging.geometry import fit
from fastloc.recipes import RECIPES, ReadOut, Recipe
from fastloc.results.prediction import Prediction
from fastloc.results.result import Result
from fastloc.text.embeddings import TextEmbeddings
from repo import REPO
from stand_in import StandIn

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))


def result() -> Result:
    similarity = np.random.default_rng(1).random((2, 3, 4), np.float32)
    return Result(picture=PICTURE, texts=("cat", "dog"), similarity=similarity, geometry=fit((24, 32), (24, 32), 8, "stretch"),
                  order="picture", scores=np.array([0.2, 0.9], np.float32), name="here.png", method="gem", model="m")  # fmt: skip


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Image.Image):
        return one.mode == other.mode and one.tobytes() == other.tobytes()
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(equal(getattr(one, name), getattr(other, name)) for name in one.__dataclass_fields__)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


# what values are made of, and calls that need no model
VALUES: dict[str, Callable[[], Any]] = {
    "Result": result,
    "Result, refined": lambda: result().refined(),
    "points": lambda: result().points(),
    "boxes": lambda: result().boxes(min_area=1),
    "sam_points": lambda: result().sam_points(),
    "Prediction": lambda: Prediction.of(result()),
    "geometry": lambda: result().geometry,
    "TextEmbeddings": lambda: TextEmbeddings(("cat", "dog"), np.eye(2, 8, dtype=np.float32), "gem", "b" * 64),
    "Recipe": lambda: RECIPES["gem_calibrated"],
    "ReadOut": lambda: ReadOut(order="softmax", logit_scale=40.0),
    "Example": lambda: Example(PICTURE, (2, 2, 20, 20), name="that"),
    "Example with words": lambda: Example(PICTURE, words="a red car", share=0.25, weights="contrast"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_values_pickle_as_they_are(name: str, protocol: int) -> None:
    made = VALUES[name]()
    there = pickle.loads(pickle.dumps(made, protocol))
    assert equal(there, made) and type(there) is type(made)
    assert equal(copy.deepcopy(made), made) and equal(copy.copy(made), made)


def test_an_example_goes_with_its_picture() -> None:
    example = VALUES["Example"]()
    there = pickle.loads(pickle.dumps(example))
    assert there.key == example.key and there.box == example.box and equal(there.picture, example.picture) and hash(there) == hash(example)


BASES = ("Error", "Exception", "Warning", "Interrupt", "Refused", "Violation")


def exceptions() -> list[type[BaseException]]:
    """Every class of fastloc's own that can be raised, of the modules that import here."""
    found = []
    for path in sorted((REPO / "fastloc").rglob("*.py")):
        if "peers" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith(BASES) for base in node.bases):
                name = ".".join(path.relative_to(REPO).with_suffix("").parts)
                try:
                    found.append(getattr(importlib.import_module(name), node.name))
                # a package that is not installed
                except ImportError:
                    continue
    return found


def raised(kind: type[BaseException]) -> BaseException:
    """One of a class, made with words for each argument that it needs."""
    values = {"status": 422, "number": 15, "lines": ["one", "two"]}
    # a class without an __init__ of its own takes any
    takes = inspect.signature(kind).parameters.items() if "__init__" in vars(kind) else ()
    needed = [name for name, each in takes if each.default is each.empty and "VAR" not in each.kind.name]
    return kind(*[values.get(name, f"the {name}") for name in needed] or ["the message"])


@pytest.mark.slow("imports every room that has an error of its own")
def test_every_error_comes_out_of_a_worker_as_it_went_in() -> None:
    kinds = exceptions()
    assert {errors.FastlocError, errors.ImageError, errors.FastlocWarning} <= set(kinds)
    for kind in kinds:
        error = raised(kind)
        error.extra = "more"  # type: ignore[attr-defined]
        error.add_note("a note")
        for there in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(there) is kind and str(there) == str(error) and there.args == error.args, kind
            assert vars(there) == vars(error), kind


def test_a_request_that_was_refused_keeps_its_status() -> None:
    pytest.importorskip("starlette")
    from fastloc.live.messages import Refused as RefusedSetting
    from fastloc.serve.settings import Refused

    there = pickle.loads(pickle.dumps(Refused(429, "later", 3)))
    assert (there.status, there.after, str(there)) == (429, 3, "later")
    setting = pickle.loads(pickle.dumps(RefusedSetting("smooth", "must be less")))
    assert (setting.field, str(setting)) == ("smooth", "must be less")


def test_localizers_pickle_as_their_arguments() -> None:
    there = pickle.loads(pickle.dumps(StandIn(0.5, batch=2)))
    assert there.seconds == 0.5 and there.batch == 2 and there.inside == 0


def test_clients_pickle_as_their_arguments_and_say_what_does_not() -> None:
    httpx2 = pytest.importorskip("httpx2")
    from fastloc import AsyncClient, Client

    for kind in (Client, AsyncClient):
        there = pickle.loads(pickle.dumps(kind("http://127.0.0.1:9", "secret", timeout=7.0, retries=2)))
        assert type(there) is kind and there._given == {"address": "http://127.0.0.1:9", "token": "secret", "timeout": 7.0, "retries": 2}
        assert there._connections.headers["Authorization"] == "Bearer secret"
        own = httpx2.MockTransport(lambda request: httpx2.Response(200))
        with pytest.raises(FastlocError, match="a client with a transport of its own cannot be pickled; make one in the other process"):
            pickle.dumps(kind("http://127.0.0.1:9", transport=own))


def test_a_submitted_picture_says_that_it_stays() -> None:
    pytest.importorskip("torch")
    from fastloc.engine.async_queue import Handle

    with pytest.raises(FastlocError, match=r"a submitted picture cannot be pickled; send what its result\(\) returns"):
        pickle.dumps(Handle(lambda: True, result))


def test_every_public_class_is_looked_at() -> None:
    """A new public name is added to a test of pickling: those here, or those of its room."""
    elsewhere = {"CnnLocalizer", "Localizer", "OnnxLocalizer", "Pipeline", "FastlocWarning", "FastlocError"}
    classes = {name for name in fastloc.__all__ if not name.startswith("_") and name[0].isupper()}
    assert classes - elsewhere == {"AsyncClient", "Client", "Example", "Result", "TextEmbeddings"}
    assert Recipe is not None
