"""`fastloc verify`: a check of an exported file's outputs on this device against its golden. Exit status 0 if they agree, 1 if not."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from fastloc.utils import console

if TYPE_CHECKING:
    from fastloc.diagnostics.verify import Verdict
    from fastloc.onnx_file.golden import OutputComparison

# columns of numbers, and the field of `OutputComparison` that each shows
COLUMNS = {
    "max error": "max_error",
    "mean error": "mean_error",
    "after min-max": "minmax_error",
    "argmax equal": "agreement",
    "peaks equal": "peaks",
}


def add(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    # argparse's own line puts the model last, where --providers would swallow it
    parser.usage = "fastloc verify MODEL [options]"
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file of `fastloc export`")
    names = "runtimes: auto, fastest, cpu, openvino, cuda, tensorrt …, in order (default: auto)"
    parser.add_argument("--providers", nargs="+", metavar="NAME", help=names)
    parser.add_argument("--allow-fallback", action="store_true", help="let other providers run unsupported nodes")
    parser.add_argument("--threads", type=_count, metavar="N", help="CPU threads (default: the runtime's choice)")
    parser.add_argument(
        "--repeat", type=_count, default=1, metavar="N", help="further calls, whose answers must be equal (default: 1)"
    )
    parser.add_argument("--self-check", action="store_true", help="compare with onnxruntime's CPU provider without optimisations too")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    from fastloc.diagnostics.verify import verify

    verdict = verify(
        args.model, asked(args.providers), repeat=args.repeat, self_check=args.self_check, allow_fallback=args.allow_fallback,
        threads=args.threads,
    )  # fmt: skip
    if args.json:
        print(json.dumps(verdict.to_dict(), indent=2))
    else:
        _show(verdict)
    return 0 if verdict.good else 1


def asked(names: list[str] | None) -> str | list[str]:
    """Providers as they were typed, as `verify` takes them: none is "auto", one is a name, which may be "auto" too."""
    return "auto" if not names else names[0] if len(names) == 1 else names


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _show(verdict: "Verdict") -> None:
    out = console.console()
    manifest, versions = verdict.manifest, dict(verdict.versions)
    out.print(Text(console.shown(verdict.path), "bold"), soft_wrap=True)
    facts = console.table("", "")
    facts.show_header = False
    for name, value in (
        ("model", f"{manifest.model.name}, method {manifest.recipe.name}, {manifest.dtype}, spelling {manifest.spelling}"),
        ("exported by", f"fastloc {versions.pop('file')}"),
        ("device", verdict.device),
        ("provider", ", ".join(verdict.providers) + (f": {_nodes(verdict)}" if verdict.nodes else "")),
        *((("chosen of", verdict.choice),) if verdict.choice else ()),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("time", _time(verdict)),
    ):
        facts.add_row(Text(name, "dim"), Text(value))
    out.print(facts)
    if verdict.rows:
        out.print()
        rows = console.table("output", *COLUMNS, right=tuple(COLUMNS))
        for row in verdict.rows:
            rows.add_row(Text(row.output), *(_number(row, field) for field in COLUMNS.values()))
        out.print(rows)
    out.print()
    # a check that did not pass is among what is wrong
    for check in (each for each in verdict.checks if each.passed is not False):
        out.print(f"{check.name}: {check.found}", soft_wrap=True)
    for wrong in verdict.wrong:
        out.print(Text(f"wrong: {wrong}", "bold red"), soft_wrap=True)
    out.print(_sentence(verdict), soft_wrap=True)


def _nodes(verdict: "Verdict") -> str:
    return ", ".join(f"{count} nodes on {name.removesuffix('ExecutionProvider')}" for name, count in verdict.nodes.items())


def _time(verdict: "Verdict") -> str:
    later = sorted(verdict.later_ms)
    return (
        f"load {verdict.load_ms:.0f} ms, first call {verdict.first_ms:.1f} ms, a later one {later[len(later) // 2]:.1f} ms; not a benchmark"
    )


def _number(row: "OutputComparison", field: str) -> str:
    value = getattr(row, field)
    if value is None:
        return "-"
    return f"{value:.2%}" if field in ("agreement", "peaks") else f"{value:.1e}"


def _sentence(verdict: "Verdict") -> Text:
    from fastloc.onnx_file.golden import TOLERANCES

    if not verdict.good:
        return Text("This file does not compute on this device what it should.", "bold red")
    limit = TOLERANCES[verdict.manifest.dtype]
    return Text(f"This file computes on this device what it should: within {limit:.0e} for {verdict.manifest.dtype}.", "bold green")
