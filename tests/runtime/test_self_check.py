"""The self-check of exported files: quiet in every kind and spelling, loud at planted faults, absent unless you ask for it."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastloc import load
from fastloc.errors import FastlocWarning, PlanError
from fastloc.onnx_file.golden import picture
from fastloc.runtime.localizer import OnnxLocalizer
from fastloc.runtime.second_session import on_host
from onnx_files import tiny_model
from tiny_localizer import NAMES, vectors

KINDS: dict[str, dict[str, Any]] = {
    "pixels": {},
    "any size": {"size": None},
    "always two": {"batch": 2},
    "bytes": {"kind": "bytes"},
    "frames": {"kind": "frames", "layout": "NHWC", "frame": (64, 80), "bgr": True},
    "baked": {"names": NAMES},
    "ort": {"spelling": "ort"},
    "onnx": {"spelling": "onnx"},
    "float16": {"dtype": "float16"},
    "everything": {"outputs": ("similarity", "scores", "heatmaps", "labels")},
}


def checked(folder: Path, share: float = 1.0, **kind: Any) -> OnnxLocalizer:
    """A tiny file of which every call is checked."""
    made = tiny_model(folder / "tiny.onnx", **kind)
    embeddings = None if made.texts.baked else (NAMES, vectors())
    return OnnxLocalizer(folder / "tiny.onnx", embeddings=embeddings, self_check=share)


def pictures(count: int, size: tuple[int, int] = (64, 80)) -> list[np.ndarray]:
    return [picture(i, size) for i in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_right_file_is_quiet(kind: str, tmp_path: Path) -> None:
    localizer = checked(tmp_path, **KINDS[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FastlocWarning)
        localizer(pictures(3))
    check = localizer.self_check
    assert check is not None and check.calls == check.checked == (2 if localizer.batch == 2 else 1), check.describe()
    assert check.different == check.unanswered == 0


def test_the_other_session_is_the_graph_as_it_was_written(tmp_path: Path) -> None:
    localizer = checked(tmp_path)
    assert localizer._second is not None
    ort = localizer._second.session.ort
    levels = [session.session.get_session_options().graph_optimization_level for session in (localizer.session, localizer._second.session)]
    assert levels == [ort.GraphOptimizationLevel.ORT_ENABLE_ALL, ort.GraphOptimizationLevel.ORT_DISABLE_ALL]


def said(localizer: OnnxLocalizer, count: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            localizer(pictures(3))
    return [str(each.message) for each in caught]


def test_a_runtime_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = checked(tmp_path)
    run = localizer.session.run
    monkeypatch.setattr(localizer.session, "run", lambda feeds: {name: each * np.float32(1.01) for name, each in run(feeds).items()})
    (message,) = said(localizer, 4)
    assert "of method 'gem', 3 texts on a grid of 4 x 5, is off by" in message and "1e-04 is allowed for float32" in message
    assert localizer.self_check is not None and localizer.self_check.different == 4


def test_a_file_that_mixes_the_pictures_of_a_batch(tmp_path: Path) -> None:
    localizer = checked(tmp_path, mixed=True)
    assert len(said(localizer, 3)) == 1
    assert localizer.self_check is not None and localizer.self_check.different == 3


def test_about_a_share_of_the_calls_is_answered_again(tmp_path: Path) -> None:
    localizer = checked(tmp_path, 0.5)
    array = np.zeros((1, 3, 32, 40), np.float32)
    for _ in range(60):
        localizer.run(array)
    check = localizer.self_check
    assert check is not None and check.calls == 60 and 12 < check.checked < 48


def test_it_is_off_unless_you_ask_for_it(tmp_path: Path) -> None:
    tiny_model(tmp_path / "tiny.onnx", names=NAMES)
    assert OnnxLocalizer(tmp_path / "tiny.onnx").self_check is None
    made = load(str(tmp_path / "tiny.onnx"), self_check=0.25)
    again = pickle.loads(pickle.dumps(made))
    assert made.self_check is not None and again.self_check is not None and again.self_check.share == 0.25


class OnDevice:
    """An array that claims to lie on a GPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_inputs_come_to_the_host() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert on_host(array) is array
    np.testing.assert_array_equal(on_host(torch.from_numpy(array)), array)
    for name in ("cpu", "get"):
        given = type("Given", (OnDevice,), {name: lambda self: self.array})(array)
        np.testing.assert_array_equal(on_host(given), array)
    with pytest.raises(PlanError, match=r"an input on a device must have a method cpu\(\) or get\(\) to be checked again, got a OnDevice"):
        on_host(OnDevice(array))
