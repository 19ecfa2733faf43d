"""`fastloc evaluate`: methods on a data set under the protocol of a paper, with the published figures beside them."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.auto import CLIP, kind_of
from fastloc.cli.arguments import add_execution, add_exported, add_inputs, add_measured, add_projections, add_source
from fastloc.cli.evaluate.figures import as_json, show
from fastloc.cli.localizers import PHOTOGRAPHS
from fastloc.embedded import FOLDERS
from fastloc.errors import FastlocError
from fastloc.utils.argument_types import count, setting
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.evaluation.running.evaluate import Evaluated

# options of a localizer, by the names that arguments and localizers share
_OPTIONS = ("projections", "size", "fit", "device", "dtype", "temperatures", "registers", "official", "embeddings", "providers")
# of an exported file alone
_OF_FILES = ("embeddings", "providers", "text")


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc evaluate`."""
    # argparse's own line puts the set last, where --method would swallow it
    parser.usage = "fastloc evaluate SET --data DIR [--method NAME ...] [--protocol PAPER] [-o DIR] [options]"
    add_set(parser)
    add_model(parser.add_argument_group("model"))
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method", nargs="+", action="extend", default=[], metavar="NAME", dest="methods",
        help="methods, by the names of `fastloc methods` (default: gem, or that of an exported file)",
    )  # fmt: skip
    add_inputs(group)
    add_measured(group)
    add_projections(group)
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--protocol", metavar="PAPER",
        help="protocol of `fastloc evaluate list` (default: of the method's paper if it has this set, else sclip, else plain)",
    )  # fmt: skip
    text = "fields of the protocol to change, such as crop=0 names=plain probability=0.1"
    group.add_argument("--set", nargs="+", action="extend", type=setting, default=[], metavar="FIELD=VALUE", dest="changes", help=text)
    text = "class names in place of the protocol's: one class a line, its names separated by commas"
    group.add_argument("--names", type=Path, metavar="FILE", help=text)
    _add_output(parser.add_argument_group("run"))


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add the data set and its folder."""
    parser.add_argument("data_set", metavar="SET", help="data set: a name of `fastloc evaluate list`")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="folder of the data set")
    parser.add_argument(
        "--option", nargs="+", action="extend", type=setting, default=[], metavar="NAME=VALUE", dest="set_options",
        help="options of the data set, as `fastloc evaluate list SET` shows them",
    )  # fmt: skip


def add_model(group: "argparse._ArgumentGroup") -> None:
    """Add the model, and the exported file that it is compared with."""
    add_source(group)
    group.add_argument("--against", type=Path, metavar="FILE", help="exported .onnx file to compare with, by paired intervals")
    add_execution(group)
    add_exported(group)


def _add_output(group: "argparse._ArgumentGroup") -> None:
    text = "folder for rows, figures and reports; the same command continues a run that is there"
    group.add_argument("-o", "--output", type=Path, metavar="DIR", help=f"{text} (default: nothing is written)")
    group.add_argument("--no-reports", action="store_true", help="write no report.html and report.md")
    group.add_argument("--limit", type=count, metavar="N", help="evaluate only the first N pictures")
    group.add_argument("--retry-failed", action="store_true", help="try failed pictures again")
    group.add_argument("--threads", type=count, metavar="N", help="threads that read pictures (default: one a core, at most 8)")
    group.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0, or 1 if a picture could not be used. Raises FastlocError for an error that concerns all of them."""
    from fastloc.evaluation.running.evaluate import evaluate
    from fastloc.evaluation.running.progress import shown

    changes = dict(args.changes) | ({"template": args.template} if args.template else {})
    found = evaluate(
        args.data_set, args.data, methods=args.methods, model=args.model, pretrained=args.pretrained, against=args.against,
        protocol=args.protocol, changes=changes, names=args.names, set_options=dict(args.set_options), output=args.output,
        reports=not args.no_reports, limit=args.limit, retry=args.retry_failed, threads=args.threads, display=shown, **_options(args),
    )  # fmt: skip
    _note_embedded(args, found)
    if args.json:
        print(json.dumps([as_json(each) for each in found], indent=2, ensure_ascii=False))
    else:
        show(found)
    failed = sum(each.summary.failed for each in found)
    if failed:
        say(f"fastloc: error: {failed:,} of {sum(each.settings.pictures for each in found):,} pictures could not be used", error=True)
    return 1 if failed else 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The options for the localizer on the command line. Raises FastlocError for one of exported files where there is none."""
    options = {name: value for name in _OPTIONS if (value := getattr(args, name))}
    options |= ({"plan": dict(args.plan)} if args.plan else {}) | ({"text": args.text_tower} if args.text_tower else {})
    if kind_of(args.model) == CLIP and args.against is None and (wrong := [name for name in _OF_FILES if name in options]):
        option = "text-tower" if wrong[0] == "text" else wrong[0]
        raise FastlocError(f"--{option} must come with an exported .onnx file, got --model {args.model}; leave it out")
    return options


def _note_embedded(args: argparse.Namespace, found: "list[Evaluated]") -> None:
    if {args.model, *(each.settings.model for each in found)} & FOLDERS.keys():
        say(f"fastloc: note: the embedded model knows emoji scenes only; for photographs add {PHOTOGRAPHS}", error=True)
