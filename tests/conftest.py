"""Kernels run in Triton's interpreter where there is no GPU; `slow` marks what `make test` leaves to `make test-all`."""

import gc
import os
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest

try:
    import torch
# `make matrix` runs what needs none
except ModuleNotFoundError:
    torch = None  # type: ignore[assignment]

# triton reads this when it is imported and when a kernel is defined, so it is set before any test module is; where there is
# a GPU it stays unset, and the same tests run the compiled kernels
if torch is not None and not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def measured_in_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep temperatures that tests measure out of the user's cache."""
    if torch is None:
        yield
        return
    from fastloc.engine import measured_temperatures

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(measured_temperatures, "user_cache", lambda: folder)
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed what a test or its fixtures draw without a generator, so that it is the same alone and behind any other test."""
    if torch is not None:
        torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the marker `slow` off the cases that its `quick` keeps in the quick suite, before `-m` looks at it.

    `@pytest.mark.slow("reason")` marks every case of a test; with quick=2 the first two cases are quick, with quick="op" the first case of
    every value of the parameter `op`, so that a new row of a table has a quick case without another line.
    """
    seen: dict[str, set[Hashable]] = {}
    for item in items:
        marker = item.get_closest_marker("slow")
        if marker is None:
            continue
        if len(marker.args) != 1 or not isinstance(marker.args[0], str) or not set(marker.kwargs) <= {"quick"}:
            raise pytest.UsageError(f'{item.nodeid}: slow must have a reason, such as @pytest.mark.slow("compiles every kernel", quick=1)')
        if _is_quick(item, marker.kwargs.get("quick", 0), seen.setdefault(item.nodeid.partition("[")[0], set())):
            item.own_markers.remove(marker)
    if items and config.getoption("markexpr") == "not slow" and Path(items[0].path).parent != Path(items[-1].path).parent:
        _check_rooms(items)


def pytest_collection_finish() -> None:
    """Keep the collector off what is loaded by now, half a million objects, and let it look less often: it took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def pytest_unconfigure() -> None:
    """Give everything back to the collector: extension modules complain about objects that outlive the interpreter."""
    gc.unfreeze()


def _is_quick(item: pytest.Item, quick: int | str, seen: set[Hashable]) -> bool:
    if isinstance(quick, int):
        case: Hashable = item.nodeid
        fresh = len(seen) < quick
    else:
        case = repr(item.callspec.params[quick])  # type: ignore[attr-defined]  # a parametrised test has one
        fresh = case not in seen
    if fresh:
        seen.add(case)
    return fresh


def _check_rooms(items: list[pytest.Item]) -> None:
    """Raise UsageError where the quick suite leaves out a whole folder of those that were collected."""
    rooms = {item.path.parent for item in items}
    quick = {item.path.parent for item in items if item.get_closest_marker("slow") is None}
    if missing := sorted(str(room.relative_to(TESTS)) for room in rooms - quick):
        raise pytest.UsageError(f"every room must have quick tests, and all of {', '.join(missing)} is slow")
