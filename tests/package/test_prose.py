"""Rules of prose that a machine can hold: docstrings name the thing, and messages name the rule."""

import re
import subprocess

import pytest

from repo import REPO

# what docs/contributing/style.md forbids, and the files that may say it
RULES = {
    "a docstring begins with a noun phrase or a verb": re.compile(r'^\s*r?"""(?:What|Whether|Which|How|Where|Why)\b', re.MULTILINE),
    "a message says what a value must be": re.compile(r"\b(?:is|are) wanted\b"),
    "error, message, row or caught are the names": re.compile(r"\btold\s*(?:=|:|\.)"),
}


def sources() -> list[tuple[str, str]]:
    names = subprocess.run(["git", "ls-files", "*.py", "*.js"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split()
    return [(name, (REPO / name).read_text(encoding="utf-8")) for name in names if name != "tests/package/test_prose.py"]


def faults(name: str, content: str) -> list[str]:
    return [
        f"{name}:{content[: match.start()].count(chr(10)) + 1}: {rule}"
        for rule, pattern in RULES.items() for match in pattern.finditer(content)
    ]  # fmt: skip


def test_docstrings_and_messages_are_written_as_the_style_page_says() -> None:
    assert not [fault for name, content in sources() for fault in faults(name, content)]


@pytest.mark.parametrize(
    "line", ['    """What a thing is."""', 'raise FastlocError("a text is wanted")', "told = str(error)", '"""Whether it is."""'],
)
def test_the_rules_find_what_they_forbid(line: str) -> None:
    assert faults("a.py", line)
