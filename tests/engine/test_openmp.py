"""Idle OpenMP threads are let go, and come back."""

import subprocess
import sys

import pytest

COUNT = """
import os, torch
from fastloc.utils.openmp import release_idle_threads

torch.set_num_threads(3)
tasks = lambda: len(os.listdir("/proc/self/task"))
work = lambda: (torch.ones(1000, 1000) * 2).sum().item()
before = tasks()
first, team = work(), tasks()
told, after = release_idle_threads(), tasks()
again, back = work(), tasks()
print(before, team, after, back, told, first == again)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_a_thread_s_team_is_let_go_and_comes_back():
    pytest.importorskip("torch")
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    before, team, after, back, reported, same = done.stdout.split()
    assert (reported, same) == ("True", "True")
    assert int(team) == int(before) + 2 == int(back) and int(after) == int(before), done.stdout


def test_the_calling_thread_s_team_is_gone_once_texts_are_encoded(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    import fastloc
    from fastloc.engine.localizing import answers

    called: list[bool] = []
    monkeypatch.setattr(answers, "release_idle_threads", lambda: called.append(True))
    fastloc.Localizer(device="cpu").encode_texts(["cat"])
    assert called == [True]
