"""`fastloc doctor`: checks of this installation, with a remedy for each problem. Exit status 1 for a problem, 0 otherwise."""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from fastloc._version import __version__
from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.diagnostics.doctor import Line

STYLES = {"good": "green", "note": "yellow", "problem": "bold red"}


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON, with every fact")


def run(args: argparse.Namespace) -> int:
    """Run the checks and print the findings. Returns the exit status."""
    from fastloc.diagnostics.doctor import PROBLEM, diagnose
    from fastloc.diagnostics.probes import probe

    facts = probe()
    lines = diagnose(facts)
    problems = sum(line.finding.severity == PROBLEM for line in lines)
    if args.json:
        rows = [{"check": line.check.name, "probe": line.check.probe, **asdict(line.finding)} for line in lines]
        print(json.dumps({"fastloc": __version__, "problems": problems, "findings": rows, "facts": asdict(facts)}, indent=2))
    else:
        _show(lines, dict(facts.packages))
    return 1 if problems else 0


def _show(lines: "list[Line]", packages: dict[str, str]) -> None:
    out = console.console()
    rows = console.table("check", "", "what was found, and what to do about it")
    for line in lines:
        finding = line.finding
        text = Text.assemble(finding.found, *((("\n-> " + finding.remedy, "bold"),) if finding.remedy else ()))
        rows.add_row(Text(line.check.name), Text(finding.severity, STYLES[finding.severity]), text)
    out.print(rows)
    out.print()
    out.print("installed:", ", ".join(f"{name} {version}" for name, version in packages.items()), soft_wrap=True)
    counts = Counter(line.finding.severity for line in lines)
    out.print(f"{counts['problem']} problems, {counts['note']} notes")
