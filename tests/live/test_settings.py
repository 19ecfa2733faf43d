"""The live page's texts and settings: encoded aside, swapped at once, and refused beside their input."""

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.embedded import SAMPLES
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocWarning
from fastloc.imaging.example import Example
from fastloc.live.method_pool import Methods, quick
from fastloc.live.settings import Settings
from fastloc.recipes import RECIPES
from fastloc.video.sources.frame import Frame
from live_client import Aside, Bright, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401


def test_quick_methods_are_offered_by_default() -> None:
    listed = {name for name, row in RECIPES.items() if quick(row)}
    assert {"gem", "maskclip", "clip_surgery"} <= listed and not {"legrad", "gem_matched", "grad_cam", "rollout"} & listed


def test_texts_are_encoded_aside_and_swapped_at_once(open_live: Any) -> None:
    localizer = Aside()
    _, join = open_live(localizer)
    client = join()
    localizer.encoded.clear()
    localizer.encoding.clear()
    client.socket.send_json({"type": "settings", "texts": ["bird"]})
    assert localizer.encoding.wait(10)
    # frames go on with the old texts while the new ones are encoded
    for number in (1, 2):
        client.frame(sent(number))
        assert client.answer().facts["texts"] == ["cat", "dog"]
    localizer.encoded.set()
    assert client.words("settings")["texts"] == ["bird"]
    client.frame(sent(3))
    assert client.answer().facts["texts"] == ["bird"]


def test_changes_made_while_one_is_encoded_come_as_one(open_live: Any) -> None:
    localizer = Aside()
    _, join = open_live(localizer)
    client = join()
    localizer.encoded.clear()
    localizer.encoding.clear()
    client.socket.send_json({"type": "settings", "texts": ["a"]})
    assert localizer.encoding.wait(10)
    for text in "bcdefg":
        client.socket.send_json({"type": "settings", "texts": [text]})
    client.socket.send_json({"type": "ping", "time": 1})
    assert client.words("pong") == {"type": "pong", "time": 1}
    localizer.encoded.set()
    assert [client.words("settings")["texts"] for _ in range(2)] == [["a"], ["g"]]


def test_a_text_that_cannot_be_encoded_leaves_the_old_ones(open_live: Any) -> None:
    _, join = open_live(Aside())
    client = join()
    answers = client.settings(texts=["nothing"])
    assert (answers["type"], answers["field"]) == ("problem", "texts") and "'nothing' cannot be encoded" in answers["message"]
    client.frame(sent(1))
    assert client.answer().facts["texts"] == ["cat", "dog"]


BAD_SETTINGS = [
    ({"texts": []}, "texts", "say what to look for"),
    ({"texts": [" ", ""]}, "texts", "say what to look for"),
    ({"texts": "cat"}, "texts", "a list of texts"),
    ({"texts": [1]}, "texts", "a list of texts"),
    ({"texts": [str(i) for i in range(13)]}, "texts", "at most 12"),
    ({"texts": ["x" * 201]}, "texts", "at most 200"),
    ({"background": [str(i) for i in range(13)]}, "background", "at most 12"),
    ({"methods": []}, "methods", "must be 1 to 2"),
    ({"methods": ["bright", "other", "third"]}, "methods", "must be 1 to 2"),
    ({"methods": ["bright", "bright"]}, "methods", "different"),
    ({"methods": ["brigth"]}, "methods", "did you mean 'bright'"),
    ({"smooth": -1}, "smooth", "from 0 to 10"),
    ({"smooth": 10**400}, "smooth", "from 0 to 10"),
    ({"smooth": None}, "smooth", "from 0 to 10"),
    ({"smooth": True}, "smooth", "from 0 to 10"),
    ({"threshold": 2}, "threshold", "from 0.05 to 1"),
    ({"maps": "own"}, "maps", "unknown way of scaling 'own'"),
    ({"maps": [0.3, 0.1]}, "maps", "the colder one first"),
    ({"maps": [0, 10**400]}, "maps", "two similarities"),
    ({"maps": [-(10**400), 0]}, "maps", "two similarities"),
    ({"maps": [0, 1e300]}, "maps", "two similarities"),
    ({"maps": [0, 1e-9]}, "maps", "1e-06 apart"),
    ({"maps": [0, 1, 2]}, "maps", "two similarities"),
    ({"maps": {}}, "maps", "two similarities"),
    ({"texts": ["\ud800"]}, "texts", "U+D800; leave that out"),
    ({"texts": ["cat", "a\x00b"]}, "texts", "U+0000"),
    ({"background": ["\x1b[2J"]}, "background", "U+001B"),
    ({"texts": None}, "texts", "a list of texts"),
    ({"methods": "bright"}, "methods", "a list of methods' names"),
    ({"boxes": 1}, "boxes", "true or false"),
    ({"colour": "red"}, "", "unknown setting 'colour'"),
    ({"to_dict": "red", "given": 1}, "", "unknown setting 'to_dict'"),
]


@pytest.mark.parametrize(("asked", "field", "message"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_that_cannot_be_are_refused_beside_their_input(
    open_live: Any, bright: Bright, asked: dict[str, Any], field: str, message: str
) -> None:
    live, join = open_live(bright)
    client = join()
    before = next(iter(live._sessions.values())).setup
    answer = client.settings(**asked)
    assert (answer["type"], answer["field"]) == ("problem", field) and message in answer["message"]
    assert next(iter(live._sessions.values())).setup is before


def test_settings_that_a_frame_proves_wrong_are_taken_back(open_live: Any) -> None:
    _, join = open_live(Bright(order="softmax"))
    client = join()
    client.frame(sent(1))
    client.answer()
    assert client.settings(maps="running")["type"] == "settings"
    client.frame(sent(2))
    assert "a text's share among all" in client.words("problem")["message"]
    assert client.words("settings")["maps"] == "frame"
    client.frame(sent(3))
    assert client.answer().facts["id"] == 3


def test_notes_of_a_text_are_sent_to_everybody() -> None:
    from fastloc import OnnxLocalizer

    pytest.importorskip("onnxruntime")
    methods = Methods(OnnxLocalizer())
    settings = Settings(("zorgle", "cat"), ("gem",))
    notes = [methods.setup(settings).notes for _ in range(2)]
    assert notes[0] == notes[1] and len(notes[0]) == 1 and "'zorgle'" in notes[0][0]


def test_probabilities_are_of_the_scale_that_the_model_was_trained_with() -> None:
    from fastloc import OnnxLocalizer

    pytest.importorskip("onnxruntime")
    setup = Methods(OnnxLocalizer()).setup(Settings(("cat",), ("gem",), maps="background"))
    assert [way.temporal.scale for way in setup.ways] == pytest.approx([21.8], abs=0.01)


def test_an_example_stands_for_its_name() -> None:
    localizer = Localizer()
    methods, example = Methods(localizer, ("itsm",)), Example(SAMPLES / "garden.webp", (10, 10, 80, 80), name="zorgle")
    methods.examples[str(example)] = example
    with warnings.catch_warnings():
        # the name is no word that the model knows
        warnings.simplefilter("error", FastlocWarning)
        methods.warm_up((str(example), "cat"))
    setup = methods.setup(Settings((str(example), "cat"), ("gem", "itsm")))
    for way in setup.ways:
        frame = Frame(0, 0.0, 0.0, (96, 128), lambda: np.full((96, 128, 3), 90, np.uint8))
        located = way.locator.locate(frame, way.prompts)
        assert located.texts == (str(example), "cat") and type(located.texts[0]) is str
        # not what the model makes of the file's name
        alone = localizer.with_method(way.method).predict_frame(frame.rgb, [str(example)])
        assert np.abs(located.similarity[0] - alone.similarity[0]).max() > 1e-3
