"""The end that somebody else asks for: SIGTERM and SIGHUP do what Ctrl-C does, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

import pytest

from fastloc.utils import termination
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.exit_status import exit_status
from fastloc.utils.termination import Terminated, Termination

# a program that says when it writes, and would write for a minute
PROGRAM = """
import sys, time
from pathlib import Path
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.exit_status import exit_status
def work():
    with replacing_folder(Path("out")) as folder:
        (folder / "half").write_text("half", encoding="utf-8")
        print("begun", flush=True)
        time.sleep(60)
sys.exit(exit_status("fastloc", work))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_program_that_is_ended_cleans_up_and_says_one_line(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    # asked twice at once, as a shell and its supervisor do
    process.send_signal(number)
    _, output = process.communicate(timeout=20)
    assert process.returncode == status
    assert output == f"fastloc: ended by {number.name}\n"
    assert list(tmp_path.iterdir()) == []


def test_what_cleans_up_after_ctrl_c_does_so_here(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    seen: list[BaseException] = []

    def work() -> int:
        try:
            with replacing_folder(tmp_path / "out"):
                os.kill(os.getpid(), signal.SIGTERM)
                return 0
        except KeyboardInterrupt as error:
            seen.append(error)
            raise

    assert exit_status("fastloc", work) == 143
    assert isinstance(seen[0], Terminated) and list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == "fastloc: ended by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a program that calls the command line keeps its own way of ending"


def test_who_asks_again_later_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may lose the first exception; a signal after a while raises another."""
    with Termination():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(termination, "APART", -1.0)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_library_that_loses_the_interruption_and_fails_of_it(
    capsys: pytest.CaptureFixture[str], number: signal.Signals, status: int
) -> None:
    """Importing torch._dynamo does so: 'module has no attribute', in many lines."""

    def work() -> int:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        raise AttributeError("module has no attribute 'exc'\n\nsee above")

    assert exit_status("fastloc", work) == status
    assert capsys.readouterr().err == ("fastloc: ended by SIGTERM\n" if status == 143 else "")


POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from fastloc.utils.termination import end_with_parent
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_a_pool_ends_with_the_process_that_made_it_even_if_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, tmp_path / "pool.py"], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        if not _runs(worker):
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlives its parent")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_signals_that_are_handled_or_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Termination() as outer:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) == outer.handle
            with Termination():
                assert signal.getsignal(signal.SIGTERM) == outer.handle
            assert signal.getsignal(signal.SIGTERM) == outer.handle
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
    seen: list[object] = []

    def elsewhere() -> None:
        with Termination():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_an_end_that_comes_where_it_would_be_lost_comes_again() -> None:
    """A frame of a video is in a set of weak references, whose callback runs when the frame goes: what is raised there is printed alone."""

    class Dying:
        pass

    class Signalled(set):
        def discard(self, item: object) -> None:
            super().discard(item)
            end.handle(signal.SIGTERM, sys._getframe(1))

    references: WeakSet[Dying] = WeakSet()
    references.data = Signalled()  # type: ignore[attr-defined]

    def drop() -> None:
        references.add(Dying())
        time.sleep(60)

    begun = time.monotonic()
    with Termination() as end, pytest.raises(Terminated):
        drop()
    # in the middle of what the main thread waits for, not behind it
    assert time.monotonic() - begun < 30
    assert not references.data  # type: ignore[attr-defined]
