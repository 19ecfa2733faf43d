"""Memory that runs out says nothing about a file, a picture or a model: no handler of a library's errors calls its input damaged for it."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import replacing, replacing_files, replacing_folder
from fastloc.utils.exit_status import exit_status
from fastloc.utils.system import files
from fastloc.utils.system.exhaustion import exhausted, pass_on
from faulty import memory
from faulty.campaign import Subject, faults_of
from forked import forked, needs_fork
from repo import REPO

# handlers of every exception that lose none, by file: the error goes on as it is, or to whoever waits for it, or into a report of faults
KEPT = {
    "fastloc/analysis/explain.py": 1, "fastloc/bench/peers/protocol.py": 1, "fastloc/checkpoints/hub_files.py": 1, "fastloc/live/app.py": 2,
    "fastloc/live/limits.py": 2,
    "fastloc/scale/on_ray.py": 1, "fastloc/scale/ray_session.py": 1, "fastloc/serve/batcher.py": 2,
    "fastloc/utils/exit_status.py": 2, "fastloc/utils/system/panics.py": 1, "fastloc/utils/system/unraised.py": 1,
    "fastloc/utils/atomic_write.py": 1, "fastloc/video/sources/av_container.py": 1, "fastloc/video/worker.py": 1,
    "fastloc/web_server/server.py": 2,
}  # fmt: skip


def silent(tree: ast.AST) -> int:
    """The number of handlers of every exception, or of RuntimeError, as which PyTorch says it, that do not pass on what ran out."""
    count = 0
    for tried in (node for node in ast.walk(tree) if isinstance(node, ast.Try)):
        passed = False
        for handler in tried.handlers:
            names = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else {"Exception"}
            passed = passed or "MemoryError" in names
            begins = ast.unparse(handler.body[0])
            count += bool(names & {"Exception", "RuntimeError"}) and not passed and not begins.startswith("pass_on(")
    return count


def test_every_handler_of_every_exception_passes_on_what_ran_out() -> None:
    found = {path.relative_to(REPO).as_posix(): silent(ast.parse(path.read_text("utf-8"))) for path in (REPO / "fastloc").rglob("*.py")}
    assert {path: number for path, number in found.items() if number} == KEPT


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("try: f()\nexcept Exception as error: raise KeyError from error", 1),
        ("try: f()\nexcept: pass", 1),
        ("try: f()\nexcept Exception as error:\n    pass_on(error)\n    raise KeyError from error", 0),
        ("try: f()\nexcept (OSError, MemoryError): raise\nexcept Exception: pass", 0),
        ("try: f()\nexcept OSError: pass", 0),
        ("try: f()\nexcept (TypeError, RuntimeError): pass", 1),
        ("try: f()\nexcept RuntimeError as error:\n    pass_on(error)\n    raise", 0),
    ],
)
def test_handlers_are_told_apart(source: str, number: int) -> None:
    assert silent(ast.parse(source)) == number


def test_an_error_that_replaced_a_memory_error_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """As `with` of an archive that cannot be closed after it."""

    def replaced() -> int:
        try:
            raise MemoryError
        finally:
            raise ValueError("planted")

    assert exit_status("fastloc", replaced) == 1
    assert capsys.readouterr().err.startswith("fastloc: error: there is not enough memory;")
    other = ValueError("of ours")
    other.__context__ = KeyError("of ours")
    assert exhausted(other) is None
    pass_on(other)
    # words of its own
    ours = FastlocError("of ours")
    ours.__context__ = MemoryError()
    assert exhausted(ours) is None


def test_an_error_of_a_reader_around_a_reader_says_so() -> None:
    """As onnx_ir's of a graph, of a node, of a value; and another error of the same depth does not."""

    def nested(first: Exception) -> Exception:
        middle, last = ValueError("a node"), ValueError("a graph")
        middle.__cause__, last.__cause__ = first, middle
        return last

    assert str(exhausted(nested(MemoryError()))).startswith("there is not enough memory;")
    assert str(exhausted(nested(RuntimeError("can't start new thread")))).startswith("the system starts no more threads;")
    assert exhausted(nested(KeyError("of ours"))) is None
    assert exhausted(nested(FastlocError("of ours"))) is None


def test_pytorch_that_has_no_memory_for_a_tensor_of_a_state_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 2)
    state = {name: each.clone() for name, each in module.state_dict().items()}
    monkeypatch.setattr(torch.Tensor, "copy_", _short)
    with pytest.raises(RuntimeError, match="Error\\(s\\) in loading state_dict") as caught:
        module.load_state_dict(state)
    assert str(exhausted(caught.value)).startswith("there is not enough memory;")
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        module.load_state_dict({**state, "bias": torch.zeros(3)})
    assert exhausted(caught.value) is None


def _short(*given: object, **more: object) -> Any:
    raise MemoryError


def _readers(path: Path) -> dict[str, tuple[Any, str, Callable[[], object]]]:
    """By name: what has too little memory, as an owner and its attribute; and the call that meets it."""
    from fastloc.analysis import scenes
    from fastloc.checkpoints import state_dicts
    from fastloc.checkpoints.foreign import openai, torchscript
    from fastloc.evaluation.sets import files as sets
    from fastloc.imaging import reduced_picture
    from fastloc.scale.sources import listing
    from fastloc.text import embeddings

    picture = Image.new("RGB", (8, 6))
    picture.save(path)
    return {
        "a mask of a set": (Image, "open", lambda: sets.index_mask(path, (8, 6))),
        "a mask of a scene": (np, "asarray", lambda: scenes._masks(path, picture, ["cat"])),
        "a turned picture": (Image.Image, "getexif", lambda: reduced_picture.orientation(picture)),
        "embeddings": (embeddings.npz, "read", lambda: embeddings._read_npz(path)),
        "weights": (state_dicts, "content", lambda: state_dicts.read(path)),
        "an archive": (torchscript, "is_archive", lambda: openai.is_openai(path)),
        "a listing": (io, "BytesIO", lambda: list(listing._some("a source", (io.BytesIO() for _ in "x")))),  # type: ignore[misc]
    }


READERS = ("a mask of a set", "a mask of a scene", "a turned picture", "embeddings", "weights", "an archive", "a listing")


@pytest.mark.parametrize("name", READERS)
def test_a_reader_without_memory_calls_nothing_damaged(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, call = _readers(tmp_path / "a.png")[name]
    monkeypatch.setattr(owner, attribute, _short)
    with pytest.raises(MemoryError):
        call()


def _third(usual: Callable[..., None], calls: list[int], then: bool = False) -> Callable[..., None]:
    """Runs out of memory in its third call; then: once the name is given."""

    def rename(old: Path, new: Path) -> None:
        calls.append(1)
        if len(calls) != 3 or then:
            usual(old, new)
        if len(calls) == 3:
            raise MemoryError

    return rename


@pytest.mark.parametrize("then", [False, True])
def test_files_whose_move_fails_are_as_they_were(then: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever memory runs out: a graph never stands beside other weights."""
    for name in ("x.onnx", "x.onnx.data"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(files, "rename", _third(files.rename, [], then))

    def write() -> None:
        with replacing_files(tmp_path / "x.onnx") as folder:
            for name in ("x.onnx", "x.onnx.data"):
                (folder / name).write_text("new")

    with pytest.raises(MemoryError):
        write()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.onnx": "old", "x.onnx.data": "old"}


def test_a_folder_that_cannot_be_exchanged_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "a.txt").write_text("old")
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    # the first call moves the old folder aside
    monkeypatch.setattr(files, "rename", _third(files.rename, [1]))
    with pytest.raises(MemoryError), replacing_folder(tmp_path / "page") as folder:
        (folder / "a.txt").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["page"] and (tmp_path / "page" / "a.txt").read_text() == "old"


@pytest.mark.parametrize("error", [MemoryError(), TypeError("not PosixPath")])
def test_what_is_unfinished_is_removed_without_memory(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removal runs out of memory once more, or the interpreter calls it something else."""
    usual, left = files.remove, [error]

    def remove(path: Path) -> None:
        if left:
            raise left.pop()
        usual(path)

    monkeypatch.setattr(files, "remove", remove)

    def write() -> None:
        with replacing(tmp_path / "x.txt") as part:
            part.write_text("half")
            raise ValueError("of a writer")

    with pytest.raises(ValueError, match="of a writer"):
        write()
    assert not left and not list(tmp_path.iterdir())


def wasteful(folder: Path) -> None:
    """Says that all is well where it has lost its content."""
    try:
        content = np.zeros(4, np.uint8).tobytes()
    except MemoryError:
        content = b""
    (folder / "x.txt").write_bytes(content)


def blaming(folder: Path) -> None:
    try:
        (folder / "x.txt").write_bytes(np.zeros(4, np.uint8).tobytes())
    except MemoryError as error:
        raise FastlocError("x.txt: is damaged") from error


@needs_fork
@pytest.mark.parametrize(
    ("work", "message"), [(wasteful, "it says that all is well, and it is not"), (blaming, "nothing says that memory ran out")]
)
def test_the_campaign_finds_work_that_hides_it(work: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    found = list(faults_of(Subject(work), "no memory for an array", tmp_path))
    assert any(message in each for each in found), found


@pytest.mark.skipif(not memory.counts_allocations(), reason="this interpreter has no module that makes its allocations fail")
@needs_fork
@pytest.mark.slow("counts down to an allocation that none reaches")
def test_the_nth_allocation_fails_and_no_other() -> None:
    def work(number: int) -> list[bytearray]:
        return [bytearray(100) for _ in range(number)]

    def one_of(nth: int) -> int:
        memory.allocation_fails(nth)
        failed = 0
        for _ in range(20):
            try:
                object()
            except MemoryError:
                failed += 1
        return failed

    def counted(number: int) -> int:
        count = memory.allocation_fails(0)
        work(number)
        return count()

    assert forked(lambda: one_of(7)) == 1
    few, many = forked(lambda: counted(10)), forked(lambda: counted(100_010))
    # a number, an object and its bytes
    assert 290_000 < many - few < 310_000
