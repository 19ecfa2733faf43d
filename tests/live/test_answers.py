"""The live page's answers: heat, peaks and boxes of the very frame that was sent, over the wire and back."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from fastloc.live.protocol import Answer, Sent, read_answer, read_frame, write_answer, write_frame
from live_client import HEAT, Bright, encoded, picture, sent
from live_fixtures import bright_fixture, open_live_fixture  # noqa: F401


def test_frames_and_answers_survive_the_wire() -> None:
    frame = Sent(4_000_000_000, 12.25, 640, b"picture")
    assert read_frame(write_frame(frame)) == frame
    heat = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    found = read_answer(write_answer(Answer({"id": 7, "texts": ["Grüße"]}, heat, b"jpeg")))
    assert found.facts == {"id": 7, "texts": ["Grüße"], "shape": [2, 3, 4, 5]} and found.picture == b"jpeg"
    assert np.array_equal(found.heat, heat)


@pytest.mark.parametrize(("x", "y"), [(0.06, 0.08), (0.56, 0.25), (0.94, 0.92)])
def test_heat_peaks_where_the_frame_is_bright(open_live: Any, bright: Bright, x: float, y: float) -> None:
    _, join = open_live(bright)
    client = join()
    client.settings(boxes=True)
    client.frame(sent(3, picture(x, y)))
    answer = client.answer()
    assert answer.heat.shape == (1, 2, *HEAT) and answer.heat.max() == 255 and answer.heat.min() == 0
    row, column = np.unravel_index(answer.heat[0, 0].argmax(), HEAT)
    assert abs((column + 0.5) / HEAT[1] - x) < 0.08 and abs((row + 0.5) / HEAT[0] - y) < 0.1
    facts = answer.facts
    assert facts["id"] == 3 and facts["time"] == 30.0 and facts["size"] == [64, 48] and facts["texts"] == ["cat", "dog"]
    for text in range(2):
        peak = facts["peaks"][0][text]
        assert abs(peak[0] - x) < 0.08 and abs(peak[1] - y) < 0.1 and peak[2] == 1
        index, x0, y0, x1, y1, _ = facts["boxes"][0][text]
        assert index == text and x0 < peak[0] < x1 and y0 < peak[1] < y1
    assert {"inference", "decode", "readout", "queue", "age"} <= facts.keys()


def test_a_flat_frame_has_no_peak(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright)
    client = join()
    client.frame(sent(1, encoded(np.full((48, 64, 3), 90, np.uint8))))
    answer = client.answer()
    assert answer.facts["peaks"] == [[None, None]] and not answer.heat.any()


def test_two_methods_answer_the_same_frame(open_live: Any, bright: Bright) -> None:
    _, join = open_live(bright)
    client = join()
    assert client.settings(methods=["bright", "other"])["methods"] == ["bright", "other"]
    client.frame(sent(1))
    answer = client.answer()
    assert answer.facts["methods"] == ["bright", "other"] and answer.heat.shape[:2] == (2, 2)
    assert np.array_equal(answer.heat[0], answer.heat[1])
