"""Warnings in long-running programs: memory that does not grow, and threads that do not take each other's."""

import ast
import sys
import threading
import warnings
from typing import Any

import pytest

from fastloc.errors import REMEMBERED, FastlocWarning, heard, warn
from repo import REPO


def test_a_warning_blames_whom_warnings_warn_would() -> None:
    def blamed(give: Any) -> tuple[str, int, type[Warning]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            give()
        return caught[0].filename, caught[0].lineno, caught[0].category

    here = sys._getframe().f_lineno
    for depth in (1, 2, 3):
        own, usual = blamed(lambda depth=depth: warn("x", depth)), blamed(lambda depth=depth: warnings.warn("x", FastlocWarning, depth))
        assert own == usual and own[0] == __file__ and own[1] > here - 12


def test_messages_without_number_take_no_memory() -> None:
    """Python remembers each one that it has shown; those of a service's requests never end."""
    inside: dict[str, Any] = {"warn": warn}
    exec("def give(text):\n    warn(text)\n", inside)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda *_, **__: None
        held = []
        for number in range(3 * REMEMBERED):
            inside["give"](f"this model never saw the word {number}")
            held.append(len(inside["__warningregistry__"]))
    # Python does remember, or this says nothing
    assert REMEMBERED - 2 < max(held) <= REMEMBERED


def test_beyond_the_outermost_frame() -> None:
    with pytest.warns(FastlocWarning, match="from nowhere"):
        warn("from nowhere", stacklevel=1000)


def test_a_text_that_is_asked_for_again_and_again_in_other_words_leaves_nothing_in_any_module() -> None:
    from fastloc.text.prompts import warn_of_unknown_words

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda *_, **__: None
        for number in range(3 * REMEMBERED):
            warn_of_unknown_words(f"cat {number}x", {"cat"}, ["cat"], stacklevel=2)
        held = [len(vars(module).get("__warningregistry__", ())) for module in list(sys.modules.values()) if module is not None]
    assert max(held) <= max(REMEMBERED + 1, 600)


def test_a_listener_hears_its_own_thread_and_filters_stay() -> None:
    """Two threads within `warnings.catch_warnings` at once leave the filters of the first for ever."""
    filters, both = list(warnings.filters), threading.Barrier(2, timeout=20)
    texts: dict[int, list[str]] = {}

    def listen(number: int) -> None:
        with heard() as found:
            both.wait()
            warn(f"of thread {number}")
            both.wait()
            with heard() as inner:
                warn("within")
            assert inner == ["within"]
            texts[number] = found
            # the first one leaves while the second one is still within
            if number == 0:
                return
            other.join()
        texts[number] = found

    other = threading.Thread(target=listen, args=(0,))
    second = threading.Thread(target=listen, args=(1,))
    for each in (other, second):
        each.start()
    for each in (other, second):
        each.join(20)
    assert texts == {0: ["of thread 0"], 1: ["of thread 1"]} and warnings.filters == filters
    with pytest.warns(FastlocWarning, match="heard by all"):
        warn("heard by all")


def files_that(use: Any) -> set[str]:
    """The files of the package with a node of which `use` is true."""
    found = set()
    for room in ("fastloc", "kernels", "export"):
        for path in sorted((REPO / room).rglob("*.py")):
            name = path.relative_to(REPO).as_posix()
            # the rooms that lie at the top are links in the package
            if not name.startswith(("fastloc/kernels/", "fastloc/export/")):
                found |= {name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if use(node)}
    return found


def test_fastloc_warns_in_one_way() -> None:
    users = files_that(lambda node: isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn")
    assert users == {"fastloc/errors.py"}, "fastloc.errors.warn keeps what Python remembers within bounds"


def test_filters_of_the_process_are_changed_by_the_command_line_and_while_files_are_read() -> None:
    """Whoever changes them in a thread does it under one lock (`silenced`), or for the whole process."""
    users = files_that(lambda node: isinstance(node, ast.Attribute) and node.attr == "catch_warnings")
    alone = {"export/text/export.py", "fastloc/scale/on_ray.py", "fastloc/utils/exit_status.py"}
    assert users == {"fastloc/checkpoints/state_dicts.py", *alone}
