"""The tables of methods, of the embedded model's quality and of runs, made from the recipes and the records, never typed."""

import json
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from doc_tables import badges, bench, device, edge, gpu_state, headline, pythons, readouts_cost, runtimes, soak, video
from doc_tables.markdown_table import TableError, markdown
from doc_tables.page import BLOCK
from fastloc import embedded
from fastloc.cli.app import COMMANDS
from fastloc.embedded import CONFIG, DEVICE, QUALITY
from fastloc.functional.readout import SURGERY_SCALE
from fastloc.recipes import RECIPES, Recipe, recipe

HERE = Path(__file__).resolve().parents[1]

RECORDS = HERE / "records"
RESULTS = HERE / "results"
RECOMMENDED = " (recommended)"
Record = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A table: the function that makes it of its record, the record's file (in `records/`, or its whole path) and the command that
    writes that file. runs: it is made of the rows of all machines in `results/` instead. owed: without its record it says so."""

    make: Callable[[Any], str]
    record: str | Path = ""
    command: str = ""
    runs: bool = False
    owed: bool = False


def recipe_table(_: Record) -> str:
    """The methods and where they are from; made of the recipes themselves."""
    rows = [
        (f"`{row.name}`", row.summary, row.depth, _map(row), _scale(row), f"`{row.template}`", linked(row.source))
        for row in RECIPES.values()
    ]
    return markdown(("method", "what it computes", "blocks", "map", "scale", "template", "source"), rows)


def names_table(_: Record) -> str:
    """The methods by name, and where they are from."""
    return markdown(("method", "source"), [(f"`{row.name}`", linked(row.source)) for row in RECIPES.values()])


def commands_table(_: Record) -> str:
    """Every command of the command line."""
    return markdown(("command", "what it does"), [(f"`fastloc {row.name}`", row.summary) for row in COMMANDS])


def _map(row: Recipe) -> str:
    order = "softmax" if row.readout.order == "softmax" else f"min-max on the {row.readout.order}"
    return order + (", reversed" if row.readout.reverse else "")


def _scale(row: Recipe) -> str:
    """The number that cosines are multiplied by before a softmax over the texts, or before they are differentiated."""
    if row.readout.score == "feature-surgery":
        return f"{SURGERY_SCALE:g}, fixed"
    if row.readout.order == "softmax":
        return _number(row.readout.logit_scale)
    return "" if row.target == "cosine" else _number(row.target_scale)


def _number(scale: float | str) -> str:
    return "the model's" if isinstance(scale, str) else f"{scale:g}, fixed"


def linked(source: str) -> str:
    """arXiv numbers, owner/repository names and pages of this repository as links."""
    source = re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)
    source = re.sub(r"((?:benchmarks|docs/methods)/[\w-]+\.md)", r"[\1](\1)", source)
    return re.sub(r", ([\w-]+/[\w-]+)$", r", [\1](https://github.com/\1)", source)


def quality_table(record: Record) -> str:
    """Scores of every method on the held-out scenes, official parameters and the model's recommended ones one below the other."""
    found = record["methods"]
    _current("quality", found, RECIPES)
    best = {key: max(scores[key] for scores in found.values()) for key in ("pointing", "miou", "auc", "msc")}
    rows: list[tuple[str, ...]] = [("chance", "", "", f"{record['chance']:.3f}", "", "0.500", "0.000")]
    for name, scores in found.items():
        method, parameters = name.removesuffix(RECOMMENDED), "official"
        if name.endswith(RECOMMENDED):
            parameters = "recommended: " + ", ".join(_change(*each) for each in _recommended()[method].items())
        cells = (f"**{scores[key]:.3f}**" if scores[key] == best[key] else f"{scores[key]:.3f}" for key in best)
        rows.append((f"`{method}`", linked(RECIPES[method].source), parameters, *cells))
    return markdown(("method", "source", "parameters", "pointing", "mIoU", "AUC", "mSC"), rows, right=4) + "\n" + _quality_words(record)


def _change(field: str, value: Any) -> str:
    # a temperature for each head and pass would fill the page
    return f"`{field}` by a table" if isinstance(value, list) else f"`{field}={value}`"


def _quality_words(record: Record) -> str:
    found = record["methods"]
    best = max(found, key=lambda name: found[name]["pointing"])
    top, raw = found[best]["pointing"], found["itsm"]["pointing"]
    versions = f"fastloc {record['fastloc']}, torch {record['torch']}, {record['dtype']} on {record['machine']}"
    return (
        f"{record['scenes']} scenes, {record['questions']} questions; {versions}. "
        f"The raw map points at the thing in {raw:.1%} of the questions, chance is {record['chance']:.1%}; "
        f"the highest row, {best}, in {top:.1%}: {top / raw:.1f} times the raw map. One standard error of a row near it is "
        f"{100 * math.sqrt(top * (1 - top) / record['questions']):.1f} points.\n"
    )


def _recommended() -> dict[str, dict[str, Any]]:
    """The embedded model's recommended parameters by method, where they change the official recipe."""
    content = json.loads(CONFIG.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = content.get("fastloc", {}).get("recommended", {}).get("recipes", {})
    return {method: changes for method, changes in rows.items() if recipe(method, **changes) != RECIPES[method]}


def _compared() -> list[str]:
    """The methods that are measured in every dtype and in every exported form, see `gpu_parts.scenes.variants`."""
    return [name for name, row in RECIPES.items() if row.reads == "patches" and not row.trained and row.rho is None]


def _current(table: str, found: Iterable[str], methods: Iterable[str]) -> None:
    """The record must be of the methods there are, and of the parameters that are recommended now."""
    names_kept = {*methods, *(method + RECOMMENDED for method in _recommended())}
    if set(found) != names_kept:
        odd = ", ".join(sorted(names_kept ^ set(found)))
        raise TableError(f"its record is of other methods than there are ({odd}): run `{TABLES[table].command}`")


def _versions(record: Record, key: str) -> str:
    """The versions that measured a record's rows: of those that were kept when others were measured again, their own."""
    return " and ".join(sorted({str(row.get(key, record[key])) for row in record["rows"]}))


def precision_table(record: Record) -> str:
    """The changes by half precision on the quality set."""
    found: dict[str, Record] = {}
    for row in record["rows"]:
        found.setdefault(row["method"], {})[row["dtype"]] = row
    _current("precision", found, _compared())
    rows = []
    for name, by_dtype in found.items():
        halves = [by_dtype[dtype] for dtype in ("float16", "bfloat16")]
        cells = [cell for half in halves for cell in (f"{half['points']:+.2f}", f"{half['error']:.0e}")]
        method, _, variant = name.partition(" ")
        rows.append((f"`{method}` {variant}".rstrip(), f"{100 * by_dtype['float32']['pointing']:.2f}", *cells))
    head = ("method", "float32: pointing, %", "float16: points", "similarity error", "bfloat16: points", "similarity error")
    words = f"The quality set ({record['scenes']} scenes), torch {_versions(record, 'torch')} on {record['machine']}, {record['device']}.\n"
    return markdown(head, rows, right=5) + "\n" + words


def training_table(record: Record) -> str:
    """The training of the embedded model."""
    config = json.loads(CONFIG.read_text(encoding="utf-8"))["model_cfg"]
    image, text = config["vision_cfg"], config["text_cfg"]
    minutes = round(record["seconds"] / 60)
    rows = [
        ("image tower", f"{image['layers']} blocks of width {image['width']}, patch {image['patch_size']}, {image['image_size']} px"),
        ("text tower", f"{text['layers']} blocks of width {text['width']}, {text['context_length']} tokens"),
        ("parameters", f"{record['parameters']:,}"),
        ("file", f"{embedded.MODEL.stat().st_size / 1e6:.1f} MB, float16"),
        ("knows", f"{record['concepts']} concepts, {record['names']} names with group words"),
        ("trained on", f"{record['images']:,} composed scenes; {record['steps']:,} steps of {record['batch']}"),
        ("time", f"{minutes // 60} h {minutes % 60:02} min on {record['device']}"),
        *([("mind", record["note"])] if "note" in record else []),
        ("seed", record["seed"]),
        ("versions", f"torch {record['torch']}, open_clip {record['open_clip']}"),
    ]
    return markdown(("embedded model", ""), rows)


def parity_table(record: Record) -> str:
    """Exported files against the engine, the worst method in each row."""
    _current("parity", {row["method"] for row in record["rows"]}, _compared())
    kinds: dict[tuple[str, ...], list[Record]] = {}
    for row in record["rows"]:
        kinds.setdefault((row["spelling"], row["dtype"], row["shape"]), []).append(row)
    times: dict[tuple[str, ...], list[float]] = {}
    for row in record["latency"]:
        times.setdefault((row["spelling"], row["dtype"], row["shape"]), []).append(row["ratio"])
    rows = []
    for kind, found in kinds.items():
        worst = (f"{max(row[key] for row in found):.0e}" for key in ("similarity", "heatmap"))
        points = [row["points"] for row in found if "points" in row]
        rows.append((
            f"`{kind[0]}`", *kind[1:], *worst, f"{100 * min(row['labels'] for row in found):.2f}",
            f"{min(points):+.2f} … {max(points):+.2f}" if points else "", f"{median(row['mb'] for row in found):.1f}",
            f"{median(times[kind]):.2f}" if kind in times else "",
        ))  # fmt: skip
    head = ("spelling", "dtype", "size and batch", "similarity", "heatmap", "labels, %", "pointing, points", "MB", "time")
    words = f"{len({row['method'] for row in record['rows']})} methods and variants, {record['scenes']} scenes for the errors, "
    words += f"{record['questions']} questions for pointing; onnxruntime {_versions(record, 'onnxruntime')}, "
    words += f"torch {_versions(record, 'torch')} on {record['machine']}.\n"
    return markdown(head, rows, right=6) + "\n" + words


def presence_table(record: Record) -> str:
    """Separation by scores of what is in a picture and what is not."""
    found = {row["method"]: row for row in record["methods"]}
    if set(found) != set(RECIPES):
        odd = ", ".join(sorted(set(found) ^ set(RECIPES)))
        raise TableError(f"its record is of other methods than there are ({odd}): run `{TABLES['presence'].command}`")
    rows = [
        (f"`{name}`", f"{row['auc']:.3f}", f"{row['found']:.1%}", f"{row['false']:.1%}", f"{row['peak']:.3f}" if row["peak"] else "")
        for name, row in found.items()
    ]
    head = ("method", "AUROC of the score", "present, 0.5 or more", "absent, 0.5 or more", "AUROC of the map's peak")
    words = f"{record['scenes']} scenes, {record['present']} present and {record['absent']:,} absent texts; fastloc {record['fastloc']}, "
    words += f"torch {record['torch']} on {record['machine']}.\n"
    return markdown(head, rows, right=4) + "\n" + words


TABLES = {
    "methods": Source(names_table),
    "recipes": Source(recipe_table),
    "commands": Source(commands_table),
    "badges": Source(badges.badges_table),
    "headline": Source(headline.headline_table),
    "gpu-limits": Source(gpu_state.limits),
    "gpu-plan": Source(gpu_state.plan),
    "gpu-measured": Source(gpu_state.measured),
    "tested": Source(gpu_state.tested),
    "quality": Source(quality_table, QUALITY, "python benchmarks/quality.py --record"),
    "quality-device": Source(device.quality_table, DEVICE / QUALITY.name, device.QUALITY_COMMAND),
    "training-device": Source(device.training_table, "device_training.json", device.TRAINING_COMMAND),
    "presence": Source(presence_table, "presence.json", "python benchmarks/quality_parts/presence.py --record --calibrate"),
    "precision": Source(precision_table, "precision.json", "python benchmarks/quality_parts/precision.py --record"),
    "parity": Source(
        parity_table, "onnx_parity.json",
        "python benchmarks/onnx_parity.py --record && python benchmarks/onnx_parity.py --latency --record",
    ),
    "runtimes-pointing": Source(runtimes.pointing_table, "runtimes.json", runtimes.COMMAND),
    "runtimes-times": Source(runtimes.times_table, "runtimes.json", runtimes.COMMAND),
    "edge": Source(edge.edge_table, "edge.json", edge.COMMAND, owed=True),
    "pythons": Source(pythons.pythons_table, "pythons.json", pythons.COMMAND, owed=True),
    "hour": Source(soak.soak_table, "soak.json", soak.COMMAND, owed=True),
    "readouts-cost": Source(readouts_cost.cost_table, "readouts_cost.json", readouts_cost.COMMAND, owed=True),
    "training": Source(
        training_table, "embedded_training.json",
        "python benchmarks/embedded_model/train.py --out runs/embedded && python benchmarks/embedded_model/pack.py runs/embedded",
    ),
    "video": Source(
        video.video_table, "video.json",
        "python benchmarks/video.py --parts file live tracking --minutes 10 --record && "
        "python benchmarks/video.py --parts fast overhead --minutes 10 --record",
    ),
    "bench-methods": Source(bench.methods_table, runs=True),
    "bench-methods-exported": Source(bench.exported_methods_table, runs=True),
    "bench-peers": Source(bench.peers_table, runs=True),
    "bench-scaling": Source(bench.scaling_table, runs=True),
    "bench-cold": Source(bench.cold_table, runs=True),
    "bench-waterfall": Source(bench.waterfall_table, runs=True),
}  # fmt: skip


def table(name: str) -> str:
    """The Markdown of one table.

    Raises:
        TableError: unknown name, or a record that is missing, of an older layout, or of other methods.
    """
    if name not in TABLES:
        raise TableError(f"there is no such table; there are {', '.join(TABLES)}")
    source = TABLES[name]
    if source.runs:
        return _of_runs(source)
    if not source.record:
        return source.make({})
    path = RECORDS / source.record
    if not path.exists() and source.owed:
        return f"Not measured yet: `{source.command}` measures it.\n"
    if not path.exists():
        raise TableError(f"{shown(path)} does not exist: make it with `{source.command}`")
    try:
        return source.make(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, json.JSONDecodeError) as error:
        raise TableError(f"{path.name} is not as it should be ({error!r}): make it again with `{source.command}`") from error


def _of_runs(source: Source) -> str:
    try:
        return source.make(bench.machines(RESULTS))
    except KeyError as error:
        raise TableError(f"a row in {shown(RESULTS)} lacks {error}: measure again with `{bench.RUN.format('')}`") from error


def shown(path: Path) -> str:
    return str(path.relative_to(HERE.parent) if path.is_relative_to(HERE.parent) else path)


def _from_folder(text: str, folder: str) -> str:
    """The text with links to files of the repository as they are from a folder in it."""
    return re.sub(r"\]\((?![a-z]+:|#)([^)\s]+)\)", lambda link: f"]({os.path.relpath(link[1], folder or '.')})", text)


def asked() -> list[str]:
    """The tables that must stand on a page: those of runs only where there are rows to make them of."""
    return [name for name, source in TABLES.items() if not source.runs or _can_be_made(name)]


def _can_be_made(name: str) -> bool:
    try:
        return bool(table(name))
    except TableError:
        return False


def filled(text: str, folder: str = "") -> tuple[str, dict[str, str]]:
    """A page with the tables of TABLES made anew, and what is wrong by table: why it cannot be made, or that it differs.

    folder: the page's, from the repository's root, "" or "docs/methods"; links to files of the repository start there.
    """
    wrong: dict[str, str] = {}

    def fill(block: re.Match[str]) -> str:
        if block["name"] not in TABLES:
            return block[0]
        try:
            body = _from_folder(table(block["name"]), folder)
        except TableError as error:
            wrong[block["name"]] = str(error)
            return block[0]
        if body != block["body"]:
            wrong[block["name"]] = "differs from what the recipes and records say: run `python benchmarks/docs.py`"
        return block["start"] + body + block["end"]

    return BLOCK.sub(fill, text), wrong
