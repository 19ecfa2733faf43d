"""`fastloc methods`, `fastloc models` and `fastloc plan`: the available choices, and those that apply here."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.text import Text

from fastloc.cli.arguments import add_execution, add_list, add_method, add_source
from fastloc.embedded import FOLDERS
from fastloc.imaging.geometry import both_sides
from fastloc.utils import console
from fastloc.utils.argument_types import count
from fastloc.utils.terminal import say


def add_models(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc models`."""
    add_list(parser)
    parser.add_argument("--all", action="store_true", help="list unsupported models too, with the reason")


def add_plan(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc plan`."""
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_method(parser.add_argument_group("method"))
    parser.add_argument("--batch", type=count, default=1, metavar="N", help="pictures a call (default: 1)")
    add_list(parser)


def methods(args: argparse.Namespace) -> int:
    """List the recipes."""
    from fastloc.recipes import RECIPES
    from fastloc.recipes.official import official_form

    if args.json:
        fields = ("name", "summary", "source", "blocks", "trained", "template", "fit")
        listed = [{field: getattr(row, field) for field in fields} | {"official": official_form(row.name).note} for row in RECIPES.values()]
        print(json.dumps(listed, indent=2))
        return 0
    rows = console.table("method", "what it computes, and where it is from", "blocks", "template", right=("blocks",))
    for row in RECIPES.values():
        note = official_form(row.name).note
        about = Text.assemble(row.summary, "\n", (row.source, "dim"), (f"\n--official: {note}" if note else "", "dim"))
        rows.add_row(Text(row.name, "bold"), about, row.depth, row.template)
    out = console.console()
    out.print(rows)
    out.print("blocks: how many of the last blocks are changed, or read backwards. template: the sentences a text is put into by default.")
    return 0


def best(args: argparse.Namespace) -> int:
    """Print the method that `--method best` takes for each kind of model, and the measurements behind it."""
    from fastloc.engine.best_method import evidence

    kinds = evidence()
    if args.json:
        print(json.dumps({key: asdict(kind) for key, kind in kinds.items()}, indent=2))
        return 0
    out = console.console()
    for kind in kinds.values():
        out.print(Text.assemble((kind.best, "bold"), f" for a model with {kind.kind}: {kind.why}."))
        rows = console.table("method", "asked of", "questions", "pointing", "auc", right=("questions", "pointing", "auc"))
        for row in kind.rows:
            rows.add_row(row.method, row.set, str(row.questions), f"{row.pointing:.3f} ± {row.pointing_error:.3f}", f"{row.auc:.3f}")
        if kind.rows:
            out.print(rows)
    out.print("pointing: the share of questions whose peak lies on the thing, with its standard error. No published CLIP was measured.")
    return 0


def models(args: argparse.Namespace) -> int:
    """List the models that fit, the embedded one first; with --all also the others, with the reasons."""
    from fastloc.checkpoints.sources.listing import models as every_model

    listed = [row for row in every_model() if args.all or row["refused"] is None]
    if args.json:
        print(json.dumps(listed, indent=2))
        return 0
    out = console.console()
    refused = [row for row in listed if row["refused"]]
    for family in dict.fromkeys(row["family"] for row in listed if not row["refused"]):
        rows = console.table("model", "input", "image tower", "embed", "text tower", "weights", right=("input", "image tower", "embed"))
        rows.title, rows.title_justify = family, "left"
        for row in listed:
            if row["family"] == family and not row["refused"]:
                rows.add_row(Text(row["name"], "bold"), _input(row), _parameters(row), str(row["embed"]), _text(row), _weights(row))
        out.print(rows)
    if refused:
        rows = console.table("model", "does not fit")
        for row in refused:
            rows.add_row(Text(row["name"], "bold"), Text(row["refused"]))
        out.print(rows)
    out.print("image tower: its parameters. weights: tags, with the licence where it is known; read the model's card before you use them.")
    out.print("Also: a folder that open_clip or transformers wrote, or hf:OWNER/NAME for such a repository on the hub; any name above with")
    out.print("a file of weights as --pretrained; or OpenAI's own ViT-B-32.pt and the like.")
    out.print("torchvision:NAME and timm:NAME are classifiers, for `fastloc locate --method cam`, grad_cam,")
    out.print("grad_cam_plus_plus or layer_cam, with class names as texts.")
    return 0


def plan(args: argparse.Namespace) -> int:
    """Print the plan of a method's execution on this machine, with the reason for every choice and against every other."""
    from fastloc.cli.localizers import torch_engine

    localizer = torch_engine(args)
    size = localizer.input_size
    chosen = localizer.engine.plan(args.batch, both_sides(size))
    if args.json:
        print(json.dumps([asdict(decision) for decision in chosen.decisions], indent=2))
    else:
        say(chosen.explain())
    return 0


def _weights(row: dict[str, Any]) -> str:
    if row["name"] in FOLDERS:
        return "comes with fastloc; knows emoji scenes, not photographs"
    if not row["pretrained"]:
        return "no published weights: give a file"
    by_licence: dict[str, list[str]] = {}
    for tag in row["pretrained"]:
        by_licence.setdefault(row["licences"].get(tag, ""), []).append(tag)
    return "; ".join(", ".join(tags) + (f" ({name})" if name else "") for name, tags in by_licence.items())


def _input(row: dict[str, Any]) -> str:
    height, width = row["input"]
    return str(height) if height == width else f"{width}x{height}"


def _parameters(row: dict[str, Any]) -> str:
    count = row["parameters"]
    return "" if count is None else f"{count / 1e9:.1f} B" if count >= 1e9 else f"{max(count / 1e6, 0.1):.{0 if count >= 1e7 else 1}f} M"


def _text(row: dict[str, Any]) -> str:
    text = row["text"]
    kind = "" if text["kind"] == "transformer" else text["kind"].rpartition("/")[2] + ", "
    tokenizer = "" if text["tokenizer"] in ("clip", row["text"]["kind"]) else f", {text['tokenizer'].rpartition('/')[2]}"
    return f"{kind}{text['context']} tokens{tokenizer}"
