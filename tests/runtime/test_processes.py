"""Exported files in other processes, without torch: forked while threads are at work, spawned, pickled and copied."""

import copy
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastloc import OnnxLocalizer
from fastloc.embedded import GEM_ONNX, SAMPLES
from fastloc.errors import PlanError
from fastloc.onnx_file.header import read
from fastloc.results.result import Result
from fastloc.runtime.providers import PROVIDERS
from fastloc.runtime.text_encoder import OnnxTextEncoder
from fastloc.runtime.text_sources import EncodedTexts
from forked import forked, held, needs_fork
from other_process import locate_in

PICTURE = SAMPLES / "market.webp"


@pytest.fixture(scope="module", params=[1, 2])
def localizer(request: pytest.FixtureRequest) -> OnnxLocalizer:
    """A localizer on one thread, and one with threads of onnxruntime's own, which a child does not have."""
    return OnnxLocalizer(threads=request.param)


def same(one: Result, other: Result) -> bool:
    return bool(np.array_equal(one.similarity, other.similarity)) and one.texts == other.texts


def encoder_of(localizer: OnnxLocalizer) -> OnnxTextEncoder:
    assert isinstance(localizer.text_source, EncodedTexts) and isinstance(localizer.text_source.encoder, OnnxTextEncoder)
    return localizer.text_source.encoder


@needs_fork
def test_a_forked_child_loads_the_file_again_and_answers_the_same(localizer: OnnxLocalizer) -> None:
    here = localizer(PICTURE, ["cat", "pizza"])
    sessions = localizer.session.session, encoder_of(localizer).session

    def there() -> tuple[Result, list[bool]]:
        # a text that nobody asked for before: the tower has to run
        encoder_of(localizer)(["a green cat"], "plain")
        found = localizer(PICTURE, ["cat", "pizza"])
        now = localizer.session.session, encoder_of(localizer).session
        return found, [one is other for one, other in zip(now, sessions, strict=True)]

    found, kept = forked(there)
    assert same(found, here) and kept == [False, False]
    assert localizer.session.session is sessions[0], "the parent goes on with its own"


@needs_fork
def test_a_child_that_is_forked_while_a_thread_is_in_the_session(localizer: OnnxLocalizer) -> None:
    with held(localizer.session._lock):
        assert forked(lambda: localizer(PICTURE, "cat").texts, patience=10) == ("cat",)


@needs_fork
def test_letting_go_of_a_localizer_in_a_child_does_not_wait_for_threads_that_are_not_there() -> None:
    """Their session's destructor hangs, or crashes."""
    held = [OnnxLocalizer(threads=threads) for threads in (2, 4)]
    for each in held:
        each(PICTURE, "cat")
    assert forked(lambda: (held.clear(), "let go")[1], patience=10) == "let go"


@needs_fork
def test_on_a_gpu_a_forked_child_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    made = OnnxLocalizer(threads=1)
    monkeypatch.setattr(made.session, "chosen", (PROVIDERS["cuda"],))
    with pytest.raises(PlanError, match=r"gem\.onnx runs on 'cuda', which a forked process cannot use; start the process by 'spawn'"):
        forked(lambda: made(PICTURE, "cat"))


def test_pickles_and_copies(localizer: OnnxLocalizer) -> None:
    here = localizer(PICTURE, "cat")
    pickled = pickle.dumps(localizer)
    assert len(pickled) < 1000
    there = pickle.loads(pickled)
    assert there.session.threads == localizer.session.threads
    assert all(same(each(PICTURE, "cat"), here) for each in (there, copy.deepcopy(localizer), copy.copy(localizer)))


def test_embeddings_go_with_the_pickle_and_relative_paths_stay_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(GEM_ONNX.parent)
    monkeypatch.chdir(tmp_path)
    vector = np.eye(1, read(GEM_ONNX).manifest().model.embed, dtype=np.float32)
    made = OnnxLocalizer("models/gem.onnx", embeddings=(["cat"], vector))
    pickled = pickle.dumps(made)
    here = made(PICTURE, None)
    monkeypatch.chdir("/")
    assert same(pickle.loads(pickled)(PICTURE, None), here)


@pytest.mark.slow("a new process imports numpy and onnxruntime")
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_new_process_answers_as_this_one_does(start: str) -> None:
    localizer = OnnxLocalizer(threads=1)
    context = multiprocessing.get_context(start)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=locate_in, args=(sender, localizer, PICTURE, "cat"))
    process.start()
    assert receiver.poll(60)
    assert same(receiver.recv(), localizer(PICTURE, "cat"))
    process.join(60)
    assert process.exitcode == 0
