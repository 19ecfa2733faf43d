"""A plugin of pytest for environments without torch: what needs a package that is not there is left out, and says which."""

from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["missing"]

# files of this repository, whose absence would be a fault
OWN = ("fastloc", "kernels", "export")


def missing(error: BaseException | None) -> str:
    """The package that an error, or what led to it, says is not installed; "" where it is another error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        name = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if name and name not in OWN:
            return name
        error = error.__cause__ or error.__context__
    return ""


def _left_out(report: Any, name: str, place: str) -> None:
    report.outcome, report.longrepr = "skipped", (place, 0, f"Skipped: needs {name}")


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    outcome = yield
    report: Any = outcome.get_result()  # type: ignore[attr-defined]
    if report.outcome == "failed" and report.longrepr is not None and (name := _of_text(str(report.longrepr))):
        _left_out(report, name, str(collector.path))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    outcome = yield
    report: Any = outcome.get_result()  # type: ignore[attr-defined]
    if report.outcome == "failed" and call.excinfo is not None and (name := missing(call.excinfo.value)):
        _left_out(report, name, str(item.path))


def _of_text(text: str) -> str:
    """The package that a traceback's last line names: of a file that could not be imported pytest keeps the text alone."""
    for line in reversed(text.splitlines()):
        before, found, rest = line.partition("No module named '")
        if found and "ModuleNotFoundError" in before:
            name = rest.partition("'")[0].partition(".")[0]
            return "" if name in OWN else name
    return ""
