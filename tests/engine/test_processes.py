"""Localizers in other processes: forked while threads are at work, spawned, in a DataLoader's workers; and copies of them."""

import copy
import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fastloc import CnnLocalizer, Localizer
from fastloc.embedded import SAMPLES
from fastloc.engine.async_queue import DEPTH
from fastloc.engine.vit_engine import Pass
from fastloc.errors import FastlocError, PlanError
from fastloc.results.result import Result
from forked import forked, held, needs_fork
from other_process import Located, locate_in

PICTURE = SAMPLES / "market.webp"


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """torch with a team of OpenMP threads, which a child does not have."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def same(one: Result, other: Result) -> bool:
    return bool(np.array_equal(one.similarity, other.similarity)) and one.texts == other.texts and one.method == other.method


@needs_fork
@pytest.mark.parametrize("method", ["gem", "grad_cam"])
def test_a_forked_child_answers_as_its_parent_does(localizer: Localizer, method: str) -> None:
    chosen = localizer.with_method(method)
    here = chosen(PICTURE, ["cat", "pizza"])
    assert same(forked(lambda: chosen(PICTURE, ["cat", "pizza"])), here)


@needs_fork
def test_a_forked_child_of_a_process_that_computed_with_several_threads(two_threads: None) -> None:
    """GNU's OpenMP waits for ever for a team of threads that fork did not copy."""
    small = Localizer(size=32, device="cpu")
    many = torch.ones(1 << 17)
    assert (many + many)[-1] == 2
    assert forked(lambda: ((many + many)[-1].item(), small(PICTURE, "cat").texts)) == (2.0, ("cat",))
    assert (many + many)[-1] == 2, "the parent's team comes back"


@needs_fork
def test_submit_in_a_forked_child(localizer: Localizer) -> None:
    here = localizer.submit(PICTURE, "cat").result()
    there = forked(lambda: [localizer.submit(PICTURE, "cat").result() for _ in range(DEPTH + 1)])
    assert all(same(each, here) for each in there)


@needs_fork
def test_a_child_that_is_forked_while_a_thread_is_in_the_engine(localizer: Localizer) -> None:
    with held(localizer.engine.lock):
        assert forked(lambda: localizer(PICTURE, "cat").texts, patience=10) == ("cat",)


@needs_fork
def test_what_was_submitted_before_fork_is_the_parents(localizer: Localizer, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    usual = localizer.locate
    monkeypatch.setattr(localizer, "locate", lambda *args: (go.wait(), usual(*args))[1])
    handle = localizer.submit(PICTURE, "cat")
    with pytest.raises(FastlocError, match=r"submitted before fork\(\)"):
        forked(handle.result, patience=10)
    go.set()
    assert handle.result().texts == ("cat",)


@needs_fork
@pytest.mark.parametrize("call", ["call", "similarity", "texts", "method", "submit"])
def test_on_a_gpu_a_forked_child_says_what_to_do(localizer: Localizer, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """torch's own error would come out of whatever touches the device first."""
    monkeypatch.setattr(localizer._process, "_device", torch.device("cuda"))
    calls: dict[str, Any] = {
        "call": lambda: localizer(PICTURE, "cat"),
        "similarity": lambda: localizer.similarity(torch.zeros(1, 8, 8, 3, dtype=torch.uint8), ["cat"]),
        "texts": lambda: localizer.encode_texts("cat"),
        "method": lambda: localizer.with_method("naclip"),
        "submit": lambda: localizer.submit(PICTURE, "cat"),
    }
    with pytest.raises(PlanError, match="the model is on cuda, which a forked process cannot use; start the process by 'spawn'"):
        forked(calls[call])
    assert localizer.encode_texts("cat") == ["cat"], "the parent goes on"


@needs_fork
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow("a new process imports torch"))])
def test_in_the_workers_of_a_data_loader(localizer: Localizer, start: str) -> None:
    loader = DataLoader(
        Located(localizer, PICTURE, ["cat", "pizza"]), batch_size=None, num_workers=1, multiprocessing_context=start, timeout=60
    )
    found = [each.numpy() for each in loader]
    assert all(np.array_equal(each, localizer(PICTURE, text).similarity) for each, text in zip(found, ["cat", "pizza"], strict=True))


def test_pickles_are_descriptions_and_load_the_same_model(localizer: Localizer) -> None:
    pickled = pickle.dumps(localizer)
    assert len(pickled) < 1000
    assert same(pickle.loads(pickled)(PICTURE, "cat"), localizer(PICTURE, "cat"))


def test_another_method_and_its_changes_are_in_the_pickle(localizer: Localizer) -> None:
    other = localizer.with_method("clip_surgery", recommended=False, template="plain", fit="letterbox")
    there = pickle.loads(pickle.dumps(other))
    assert (there.recipe, there.template, there.fit) == (other.recipe, other.template, other.fit)
    assert same(there(PICTURE, ["cat", "pizza"]), other(PICTURE, ["cat", "pizza"]))
    made = Localizer(method="gem", iterations=0, size=(64, 96), plan={"attention": "bmm"}, device="cpu", batch=3)
    again = pickle.loads(pickle.dumps(made))
    assert (again.recipe, again.input_size, again.plan, again.batch) == (made.recipe, made.input_size, made.plan, 3)


def test_copies(localizer: Localizer) -> None:
    here = localizer(PICTURE, "cat")
    shallow, deep = copy.copy(localizer), copy.deepcopy(localizer)
    assert shallow.weights is localizer.weights and deep.weights is not localizer.weights
    assert same(shallow(PICTURE, "cat"), here) and same(deep(PICTURE, "cat"), here)


def test_a_relative_path_means_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastloc.embedded import FOLDER

    (tmp_path / "model").symlink_to(FOLDER)
    monkeypatch.chdir(tmp_path)
    pickled = [pickle.dumps(Localizer(name, device="cpu")) for name in ("model", "local-dir:model")]
    monkeypatch.chdir("/")
    for each in pickled:
        assert pickle.loads(each)(PICTURE, "cat").texts == ("cat",)


def test_results_pickle(localizer: Localizer) -> None:
    here = localizer(PICTURE, ["cat", "pizza"])
    for result in (here, here.refined()):
        there = pickle.loads(pickle.dumps(result))
        assert same(there, result) and there.points() == result.points() and there.to_dict() == result.to_dict()
        assert np.array_equal(there.heatmaps, result.heatmaps)
        assert same(copy.deepcopy(result), result)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))


@needs_fork
def test_a_classifier_of_ones_own_pickles_with_its_weights() -> None:
    module = small()
    cnn = CnnLocalizer(module, categories=["cat", "pizza", "car"], size=32, device="cpu", layer="1")
    here = cnn(PICTURE, "cat")
    with torch.no_grad():
        module[0].weight.zero_()
    for other in (pickle.loads(pickle.dumps(cnn)), copy.deepcopy(cnn)):
        assert same(other(PICTURE, "cat"), here), "the copy that is in use, not the module that was trained on since"
    assert same(forked(lambda: cnn(PICTURE, "cat")), here)


@pytest.mark.slow("a new process imports torch")
@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_new_process_answers_as_this_one_does(localizer: Localizer, start: str) -> None:
    context = multiprocessing.get_context(start)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=locate_in, args=(sender, localizer.with_method("naclip"), PICTURE, "cat"))
    process.start()
    assert receiver.poll(60)
    assert same(receiver.recv(), localizer.with_method("naclip")(PICTURE, "cat"))
    process.join(60)
    assert process.exitcode == 0


def test_threads_run_passes_side_by_side_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two passes waits for the other to have begun, and both answer as one alone does."""
    localizer = Localizer(device="cpu")
    pixels, texts = torch.zeros(1, 96, 96, 3, dtype=torch.uint8), ["cat", "pizza"]
    alone = localizer.similarity(pixels, texts)[0]
    both, plain = threading.Barrier(2, timeout=60), Pass.__call__

    def met(self: Pass, *inputs: torch.Tensor) -> Any:
        both.wait()
        return plain(self, *inputs)

    monkeypatch.setattr(Pass, "__call__", met)
    with ThreadPoolExecutor(2) as pool:
        for found, _ in pool.map(lambda _: localizer.similarity(pixels, texts), range(2)):
            assert torch.equal(found, alone)
