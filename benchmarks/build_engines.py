"""Build engines from exported files with TensorRT-RTX, ahead of time and without a GPU: acceptance, build time, and result.

    python benchmarks/build_engines.py                         # print, about 50 minutes on two cores
    python benchmarks/build_engines.py --record                # also write benchmarks/records/engines.json
    python benchmarks/build_engines.py --methods gem --sm 89   # a part
    python benchmarks/build_engines.py --families              # a model of each newer family, about 8 minutes
    python benchmarks/build_engines.py --families --record     # also write benchmarks/records/engine_families.json

ViT-B/16 with random weights at 448. GEM and CLIP Surgery for each compute capability alone and for all of them in one engine, with sizes
fixed, with sizes open, and with a camera's frames going in; every other method for all of them in one. A file that is not taken is a row
with the reason, and the exit status is 1.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastloc import Localizer
from fastloc.bench.run_facts import commit
from fastloc.errors import FastlocError
from fastloc.export.to_onnx import Options, export
from fastloc.export.trt.build import EngineReport, Profiles, build
from fastloc.recipes import RECIPES
from fastloc.utils import hardware
from fastloc.utils.atomic_write import write_text

RECORDS = Path(__file__).parent / "records"
RECORD, FAMILY_RECORD = RECORDS / "engines.json", RECORDS / "engine_families.json"
MODEL, SIZE, FRAME = "ViT-B-16", (448, 448), (720, 1280)
SMS = ("80", "86", "89", "120")
# the two that no one else ships: every compute capability and every kind of input
CLOSELY = ("gem", "clip_surgery")
# the method of each: an attention pool without a class token; rotated queries and keys before an attention pool; convolutions, with
# attention in the last stage, and without any
# a FastViT's layer scales are 1e-5 before training: a method without the residual reads nothing else, which float16 does not hold
FAMILIES = {"ViT-B-16-SigLIP": "gem", "PE-Core-B-16": "gem", "MobileCLIP2-S0": "sclip", "convnext_base": "itsm"}
FAMILY_SIZE = (224, 224)
WRITTEN = (("onnx", "float16"), ("decomposed", "float32"), ("decomposed", "float16"))
Row = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of engine: its inputs and outputs; `profiles` where something is open."""

    name: str
    options: Row
    profiles: Profiles = field(default_factory=Profiles)


KINDS = (
    Kind("fixed", {"size": SIZE, "count": 4}),
    Kind("open", {"size": None, "batch": None, "count": None},
         Profiles(batch=(1, 1, 8), size=((224, 224), SIZE, (672, 672)), texts=(1, 4, 32))),
    Kind("frames", {"size": SIZE, "count": 4, "kind": "frames", "frame": FRAME, "layout": "NHWC", "outputs": ("heatmaps", "labels")}),
)  # fmt: skip


def plan(methods: list[str], sms: list[str]) -> Iterator[tuple[str, str, str, Kind, list[list[str]]]]:
    """Each file, with the compute capabilities that engines are made for."""
    for method in methods:
        for spelling, dtype in WRITTEN:
            for kind in KINDS if method in CLOSELY else KINDS[:1]:
                every = [[sm] for sm in sms] if method in CLOSELY and kind is KINDS[0] else []
                yield method, spelling, dtype, kind, [*every, sms]


def rows(methods: list[str], sms: list[str], folder: Path) -> Iterator[Row]:
    for method, spelling, dtype, kind, targets in plan(methods, sms):
        start: Row = {"method": method, "spelling": spelling, "dtype": dtype, "kind": kind.name}
        path, began = folder / "model.onnx", time.perf_counter()
        try:
            localizer = Localizer(MODEL, "random", method, size=SIZE, fit="stretch")
            export(localizer, path, Options(spelling=spelling, dtype=dtype, **kind.options))
        except FastlocError as error:
            yield {**start, "failed": f"export: {error}"}
            continue
        start["export_s"] = round(time.perf_counter() - began, 1)
        start["onnx_bytes"] = path.stat().st_size
        for target in targets:
            yield {**start, "sm": target, **built(path, target, kind.profiles)}


def family_rows(sms: list[str], folder: Path) -> Iterator[Row]:
    """A method of each family's model, the image embedding with it, for all compute capabilities in one engine."""
    for model, method in FAMILIES.items():
        for spelling, dtype in WRITTEN:
            start: Row = {"model": model, "method": method, "spelling": spelling, "dtype": dtype, "kind": "fixed"}
            path = folder / "model.onnx"
            try:
                localizer = Localizer(model, "random", method, size=FAMILY_SIZE, fit="stretch")
                export(localizer, path, Options(spelling=spelling, dtype=dtype, size=FAMILY_SIZE, count=4))
            except FastlocError as error:
                yield {**start, "failed": f"export: {error}"}
                continue
            yield {**start, "onnx_bytes": path.stat().st_size, "sm": sms, **built(path, sms, Profiles())}


def built(path: Path, target: list[str], profiles: Profiles) -> Row:
    """One engine as numbers, or why there is none."""
    try:
        report: EngineReport = build(path, sm=target, profiles=profiles)
    except FastlocError as error:
        return {"failed": str(error).replace(str(path), path.name)}
    layers = sum(sum(counts.values()) for counts in report.layers.values())
    return {
        "build_s": report.seconds, "bytes": report.bytes, "layers": layers, "products": report.products, "warnings": list(report.warnings),
        "inputs": {each.name: each.dtype for each in report.tensors if each.mode == "input"},
        "outputs": {each.name: each.dtype for each in report.tensors if each.mode == "output"},
    }  # fmt: skip


def line(row: Row) -> str:
    label = f"{row.get('model', MODEL):16} {row['method']:13} {row['spelling']:10} {row['dtype']:8}"
    name = f"{label} {row['kind']:6} {'+'.join(row.get('sm', [])):13}"
    if "failed" in row:
        return f"{name} FAILED {row['failed']}"
    return f"{name} {row['build_s']:6.1f} s {row['bytes'] / 2**20:6.1f} MB  {row['layers']} layers, products {row['products']}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # what is solved within a pass is not exported, and trained projections make another model of the same graph as without them
    methods = [name for name, row in RECIPES.items() if row.inv_temp != "matched" and not row.trained]
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--sm", nargs="+", choices=SMS, default=list(SMS))
    parser.add_argument("--families", action="store_true", help="build a model of each newer family in place of all else")
    parser.add_argument("--record", action="store_true", help="write the record")
    chosen = parser.parse_args()
    whole = (chosen.methods, chosen.sm) == (methods, list(SMS))
    if chosen.record and not whole:
        parser.error("a record must be of every method and capability; leave --methods and --sm out")
    # the code that runs is the code of now; the tree may change meanwhile
    found, ran = [], commit()
    with tempfile.TemporaryDirectory() as folder:
        selected = family_rows(chosen.sm, Path(folder)) if chosen.families else rows(chosen.methods, chosen.sm, Path(folder))
        for row in selected:
            found.append(row)
            print(line(row), flush=True)
    if chosen.record:
        written_to = FAMILY_RECORD if chosen.families else RECORD
        write_text(written_to, written(found, ran, chosen.families))
    return 1 if any("failed" in row for row in found) else 0


def written(found: list[Row], ran: str, families: bool = False) -> str:
    """The record of a commit, one row a line."""
    versions = {name: version(name) for name in ("tensorrt_rtx", "torch", "onnx", "onnxscript")}
    model = "of each row" if families else MODEL
    head: Row = {"benchmark": "build_engines", "model": f"{model}, random weights", "size": FAMILY_SIZE if families else SIZE}
    head |= {"device": hardware.cpu()} if families else {"frame": FRAME, "device": hardware.cpu()}
    lines = ",\n".join(f"  {json.dumps(row)}" for row in found)
    return json.dumps({**head, **versions, "commit": ran}, indent=1)[:-2] + ',\n "rows": [\n' + lines + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
