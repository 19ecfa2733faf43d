"""Signals that wait for what must not be torn, in a command as it is run."""

import signal

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
            with pytest.raises(error) as told:
                work(interrupts)
            # what was ended once is so once: closing is not disturbed
            with interrupts.held():
                signal.raise_signal(number)
                done.append("closed")
        assert type(told.value) is error and done == ["finished", "closed"]
        assert signal.getsignal(number) == usual


def test_a_signal_outside_of_what_is_held_raises_at_once() -> None:
    with Termination(), pytest.raises(Terminated, match="15"), Interrupts():
        signal.raise_signal(signal.SIGTERM)


def test_without_the_command_line_around_it_only_ctrl_c_is_taken() -> None:
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
