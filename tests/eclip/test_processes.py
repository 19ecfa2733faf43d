"""Processes of torch.distributed: joined, and left before the interpreter shuts down."""

import contextlib
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fastloc.eclip.trainer import joined_processes
from fastloc.errors import FastlocError


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values that torchrun sets for the only process of a run; port 0 is any that is free."""
    values = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0",
              "TORCHELASTIC_RUN_ID": "one"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def gloo_threads() -> int:
    """Number of this process's threads that are gloo's, by their names, which only Linux gives."""
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())


linux = pytest.mark.skipif(sys.platform != "linux", reason="names of threads are read from /proc")


@linux
@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("error", [None, FastlocError, KeyboardInterrupt])
def test_no_thread_of_the_group_outlives_it(error: type[BaseException] | None) -> None:
    """One that lets go of a tensor while the interpreter shuts down ends the process with SIGABRT."""
    with contextlib.nullcontext() if error is None else pytest.raises(error), joined_processes("cpu") as device:
        assert device == "cpu" and dist.is_initialized()
        dist.all_reduce(torch.ones(3))
        assert gloo_threads() > 0, "the threads have other names now, so this test sees nothing"
        if error is not None:
            raise error("an error of the training")
    assert not dist.is_initialized() and gloo_threads() == 0


def test_a_process_of_its_own_joins_none() -> None:
    with joined_processes("cpu") as device:
        assert device == "cpu" and not dist.is_initialized()
    with joined_processes(None) as device:
        assert device is None
