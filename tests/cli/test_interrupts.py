"""Signals that wait for what must not be torn, in a command as it is run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastloc.cli.interrupts import Interrupts
from fastloc.utils.termination import Terminated, Termination


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)]
)
def test_a_signal_waits_for_what_is_held(number: signal.Signals, error: type[BaseException]) -> None:
    done: list[str] = []

    def work(interrupts: Interrupts) -> None:
        with interrupts.held():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("finished")
        done.append("not reached")

    with Termination():
        usual = signal.getsignal(number)
        with Interrupts() as interrupts:
            with pytest.raises(error) as caught:
                work(interrupts)
            # what was ended once is so once: closing is not disturbed
            with interrupts.held():
                signal.raise_signal(number)
                done.append("closed")
        assert type(caught.value) is error and done == ["finished", "closed"]
        assert signal.getsignal(number) == usual


def test_a_signal_outside_of_what_is_held_raises_at_once() -> None:
    with Termination(), pytest.raises(Terminated, match="15"), Interrupts():
        signal.raise_signal(signal.SIGTERM)


def test_without_the_command_line_around_it_only_ctrl_c_is_taken() -> None:
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow("a new process imports torch and begins an export")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_export_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-P", "-m", "fastloc", "export", "-o", "gem.onnx"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(1200):
            if any(tmp_path.iterdir()) or process.poll() is not None:
                break
            time.sleep(0.05)
        assert [each.suffix for each in tmp_path.iterdir()] == [".part"], "it is being written"
        process.send_signal(number)
        _, output = process.communicate(timeout=60)
    assert process.returncode == 128 + number and output.splitlines()[-1] == f"fastloc: ended by {number.name}"
    assert "Traceback" not in output and not list(tmp_path.iterdir())
