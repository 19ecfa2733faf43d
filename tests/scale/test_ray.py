"""Ray without Ray: refusals before it starts, the fit of actors to machines, and an actor's answers."""

import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line import Run, run_fixture  # noqa: F401
from fastloc.embedded import SAMPLES
from fastloc.errors import FastlocError
from fastloc.scale import ray_session
from fastloc.scale.locate import Locate
from fastloc.scale.on_ray import Actor, Pool, pool_of
from fastloc.scale.shards import Counts, Shard
from fastloc.scale.sources.item import Item

COMMAND = ("batch", SAMPLES, "-t", "cat", "-o", "out")


def fake(**more: object) -> SimpleNamespace:
    """A stand-in for the module ray."""
    parts = {"__version__": "2.60.0", "is_initialized": lambda: False, "shutdown": lambda: None, "data": SimpleNamespace()}
    return SimpleNamespace(**parts | more)


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the cluster address of the machine's environment, and set the variables of `ray_session`."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ray_session.ENVIRONMENT:
        monkeypatch.setenv(name, ray_session.ENVIRONMENT[name])


def test_without_ray_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ended = run(*COMMAND, "--ray")
    assert ended == (1, "", 'fastloc: error: this needs ray, which is not installed: pip install "fastloc[ray]"\n')
    assert not Path("out").exists()


@pytest.mark.parametrize("version", ["1.13.0", "2.39.1", "2.64.0rc1", "3.0.0.dev0"])
def test_another_version_of_ray_is_refused(version: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake(__version__=version))
    ended = run(*COMMAND, "--ray")
    rule = "2.40 or later and below 2.64"
    assert ended == (1, "", f'fastloc: error: ray must be {rule}, got {version}; pip install "fastloc[ray]"\n')


@pytest.mark.parametrize("address", ["pictures", "ray://head:10001", "head:", ":6379", "head:port", "head:70000", "/tmp/a:1", "http://a:1"])
def test_what_is_no_address_is_refused(address: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake())
    ended = run(*COMMAND, "--ray", address)
    assert ended.status == 1 and ended.out == "" and ended.err.count("\n") == 1
    assert ended.err.startswith(f"fastloc: error: the address of Ray must be HOST:PORT, auto or local, got {address!r}; ")


def test_where_nobody_listens_there_is_no_ray(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", fake())
    with socket.socket() as free:
        # bound and not listening: nobody else takes the port
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        ended = run(*COMMAND, "--ray")
    assert ended.status == 1 and ended.err.startswith(f"fastloc: error: {address}: no Ray answers there (") and ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1"), "Version mismatch: The"),
        (ConnectionError("Could not find any running Ray instance."), "Could not find any"),
        (SystemExit(15), "no answer"),
    ],
)
def test_a_cluster_that_refuses_is_one_line(fault: BaseException, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise fault

    ended = []
    monkeypatch.setitem(sys.modules, "ray", fake(init=init, shutdown=lambda: ended.append(True)))
    monkeypatch.setattr(ray_session, "_quiet", lambda: pytest.MonkeyPatch.context())
    with pytest.raises(FastlocError, match=f"auto: cannot connect to Ray \\({reason}"), ray_session.connected("auto"):
        pass
    assert ended == [True]


def test_a_connection_of_the_caller_is_used_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    known = fake(is_initialized=lambda: True, shutdown=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "ray", known)
    with ray_session.connected("nonsense") as ray:
        assert ray is known
    assert not ended


@pytest.mark.parametrize("option", ["--actors", "--actor-gpus"])
def test_actors_need_ray(option: str, run: Run) -> None:
    ended = run(*COMMAND, option, 1)
    assert ended == (1, "", f"fastloc: error: {option} must come with --ray, got 1 without; add --ray, or leave it out\n")


def nodes(*machines: tuple[float, float]) -> list[dict[str, object]]:
    """Machines of so many cores and GPUs, and one that has gone."""
    alive = [{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus} for cpus, gpus in machines]
    gone = {"Alive": False, "Resources": {"CPU": 640.0, "GPU": 80.0}}
    return [*({"Alive": True, "Resources": each} for each in [*alive, {"memory": 1.0}]), gone]


@pytest.mark.parametrize(
    ("machines", "actors", "gpus", "pool"),
    [
        ([(2, 0)], None, 0, Pool(1, 2, 0)),
        ([(2, 0)], 2, 0, Pool(2, 1, 0)),
        ([(2, 0)], 1, 0, Pool(1, 2, 0)),
        ([(64, 0)], None, 0, Pool(16, 4, 0)),
        # three actors of four cores would not fit
        ([(6, 0), (6, 0)], None, 0, Pool(2, 6, 0)),
        ([(6, 0), (6, 0)], 3, 0, Pool(3, 3, 0)),
        ([(16, 2), (16, 2), (96, 0)], None, 1, Pool(4, 8, 1)),
        ([(16, 1)], None, 0.5, Pool(2, 8, 0.5)),
        ([(16, 8)], None, 4, Pool(2, 8, 4)),
    ],
)
def test_actors_fit_the_machines(machines: list[tuple[float, float]], actors: int | None, gpus: float, pool: Pool) -> None:
    assert pool_of(nodes(*machines), actors, gpus) == pool


@pytest.mark.parametrize(
    ("machines", "actors", "gpus", "message"),
    [
        ([(2, 0)], 3, 0, "actors must be at most 2 in this cluster, got 3"),
        ([(16, 1)], 2, 1, "actors must be at most 1 in this cluster, got 2"),
        ([(2, 0)], None, 1, "an actor needs a CPU core and 1 GPUs, which no machine of the cluster has"),
        ([], None, 0, "an actor needs a CPU core"),
        ([(2, 0)], 0, 0, "actors must be"),
        ([(2, 0)], 1, -1, "gpus of an actor must be"),
        ([(2, 2)], 1, float("nan"), "gpus of an actor must be"),
        ([(2, 2)], 1, 1.5, "gpus of an actor must be a whole number or a part of one, got 1.5; use 1"),
    ],
)
def test_actors_that_do_not_fit_are_refused(machines: list[tuple[float, float]], actors: int | None, gpus: float, message: str) -> None:
    with pytest.raises(FastlocError, match=message):
        pool_of(nodes(*machines), actors, gpus)


@pytest.fixture(scope="module", name="locate")
def locate_fixture() -> Locate:
    """One model for all tests here."""
    return Locate(["cat"], batch=2)


def answer(locate: Locate, folder: Path, here: Path, **changes: object) -> dict[str, list[object]]:
    """An actor's answer for a shard of a picture and of a file that is none."""
    (here / "none.png").write_bytes(b"none")
    shard = Shard(3, (Item("good", str(SAMPLES / "street.png")), Item("none", "none.png")))
    actor = Actor(locate, folder, replace(locate.settings, **changes), 1, str(here))
    return actor({"shard": [shard]})


@pytest.fixture(name="here")
def here_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "out").mkdir(parents=True)
    return tmp_path / "here"


def test_an_actor_commits_a_shard_from_the_folder_of_the_command(locate: Locate, here: Path) -> None:
    made = answer(locate, Path("out"), here)
    counts = Counts(2, 1, 1)
    assert made == {
        "number": [3], "pictures": [counts.pictures], "located": [counts.located], "failed": [counts.failed], "error": [""],
    }  # fmt: skip
    assert {path.parent.name for path in (here / "out").rglob("part-000003.parquet")} == {"rows", "errors"}


@pytest.mark.parametrize(
    ("folder", "changes", "error"),
    [
        ("gone", {}, "here/gone must be a folder that all machines of the cluster share"),
        ("out", {"digest": "sha256:0"}, "must have the settings of the run, and digest is 'sha256:"),
        ("out", {"device": "cuda"}, "must have the settings of the run, and device is 'cpu' here and 'cuda' there"),
    ],
)
def test_an_actor_says_why_it_cannot_go_on(folder: str, changes: dict[str, str], error: str, locate: Locate, here: Path) -> None:
    made = answer(locate, Path(folder), here, **changes)
    assert str(made["error"][0]).startswith(f"shard 3 on {socket.gethostname()}: ") and error in str(made["error"][0])
    assert made["pictures"] == [0] and not list(here.rglob("*.parquet"))
