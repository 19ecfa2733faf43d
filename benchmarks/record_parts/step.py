"""A step: one command that writes records, and what it takes to run it."""

from collections.abc import Mapping
from dataclasses import dataclass

# the folder that a benchmark's rows go into first, and the folders that the caller names by --with
OUT, GIVEN = "{out}", ("real", "photographs", "others", "towers", "server")


@dataclass(frozen=True)
class Step:
    """One command.

    command: the arguments of Python; `{out}` is an empty folder, from which the rows are moved once the command has succeeded, and a name
    of GIVEN in braces is a folder that the caller names. writes: the records, relative to the repository; a folder is that of the machine's
    runs. suites: whose rows in that folder are the record's. part: the part of a record that has several. code: the paths on which the
    record depends. needs: packages to import, `gpu`, `chromium`, `peers`, or a name of GIVEN. timed: whether it needs an idle machine.
    seconds: about what its own options ask for, 0 where they say nothing.
    """

    name: str
    command: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, ...]
    suites: tuple[str, ...] = ()
    part: str = ""
    needs: tuple[str, ...] = ()
    timed: bool = True
    seconds: int = 0

    def arguments(self, folders: Mapping[str, str]) -> list[str]:
        """The command with the folders in it."""
        made = list(self.command)
        for name, folder in folders.items():
            made = [each.replace(f"{{{name}}}", folder) for each in made]
        return made
