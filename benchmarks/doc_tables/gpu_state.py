"""Sentences and tables of the pages about runs on a GPU: made of the records that `benchmarks/gpu.py` leaves in `benchmarks/results/`.

Without such records every page says that no GPU ran. A record counts that is of a GPU (it has a compute capability) and of full size.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doc_tables.markdown_table import markdown

RESULTS = Path(__file__).resolve().parents[1] / "results"
Record = dict[str, Any]
# a folder's records by part
Records = dict[str, Record]
# the columns of the table of speed
SPEED = {
    "official float32": "official, float32", "official bfloat16": "official, bfloat16",
    "compiled max-autotune bfloat16": "official, compiled", "sdpa + graph": "SDPA + graph",
    "sdpa flash + graph": "FlashAttention + graph", "default": "fastloc", "encoder": "encoder alone",
}  # fmt: skip


def machines() -> list[Records]:
    """The parts' records of every GPU."""
    found = []
    for folder in sorted(RESULTS.glob("*/gpu")):
        records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
        if kept := {part: record for part, record in records.items() if record.get("capability") and not record["quick"]}:
            found.append(kept)
    return found


def limits(_: Record) -> str:
    """The front page's sentence."""
    found = machines()
    if not found:
        return "No GPU has run the kernels or the exported files yet.\n"
    return f"GPUs: {'; '.join(_device(records) for records in found)}.\n"


def plan(_: Record) -> str:
    """Above the plan's columns: how they were tried."""
    built = ("tested in Triton's interpreter, compiled ahead of time for sm_80, sm_89 and sm_90 in the test suite (registers, shared\n"
             "memory, spills and tensor-core instructions in `benchmarks/records/kernel_builds.json`)")  # fmt: skip
    found = machines()
    if not found:
        return f"**No GPU has run these kernels yet.** They are {built}, and the GPU column\nabove is a prediction.\n"
    lines = [f"The kernels are {built}.\n"]
    for records in found:
        lines += [f"\n{_device(records)}: {'; '.join(_checks(records)) or 'no check ran'}.\n"]
        if quicker := list(_quicker(records)):
            lines.append(f"Choices that were quicker than the GPU column: {', '.join(quicker)}.\n")
    return "".join(lines)


def tested(_: Record) -> str:
    """The table of what ran where."""
    parts = ("gate", "parity", "exported", "video")
    ran = {part: [records for records in machines() if _rows(records, part)] for part in parts}
    gpus = {part: "; ".join(f"{_name(records)} ({_share(records, part)})" for records in some) for part, some in ran.items()}
    steps = {row.get("step") for records in ran["exported"] for row in _rows(records, "exported")}
    providers = [name for name, label in (("CUDA", "cuda"), ("TensorRT", "tensorrt")) if label in steps]
    onnx = " and ".join(name for name in ("CUDA", "TensorRT") if name not in providers)
    files = f"{' and '.join(providers)} providers on {gpus['exported']}" if providers else ""
    frames = f"frames in memory on {gpus['video']}" if gpus["video"] else ""
    rows = [
        ("the engine, every method and plan", "x86-64 Linux, CPU, PyTorch 2.11 to 2.15", gpus["parity"], "macOS; Windows; ARM"),
        ("Triton kernels", "Triton's interpreter; compiled ahead of time for sm_80, sm_89 and sm_90", gpus["gate"], ""),
        ("exported files", "onnxruntime's CPU provider; onnxruntime-web (WebAssembly, and WebGPU on SwiftShader) in Chromium", files,
         f"{onnx} providers; phones" if onnx else "phones"),
        ("TensorRT-RTX engines", "built and accepted without a GPU", "", "run"),
        ("streams and cameras", "files, and FFmpeg's network streams", frames, "camera devices"),
        ("pipelines of GStreamer, DeepStream and Triton", "configurations read by their own schemas and parsers", "",
         "inside those programs on a GPU"),
        ("methods against their authors' code", "seeded random weights and small pictures, stored answers in `tests/goldens/`", "",
         "published weights on published data sets"),
        ("the live page", "headless Chromium with a made camera", "", "other browsers"),
    ]  # fmt: skip
    needs = ("the engine, every method and plan", "Triton kernels")
    cells = [(name, _joined(where, gpu), _joined("a GPU" if name in needs and not gpu else "", never)) for name, where, gpu, never in rows]
    return markdown(("what", "where it ran", "where it never ran"), cells)


def measured(_: Record) -> str:
    """Costs of every method, and of the contenders of GEM, on every GPU."""
    found = machines()
    if not found:
        return "No GPU has been measured yet.\n"
    return "\n".join(part for records in found for part in _tables(records))


def _tables(records: Records) -> Iterator[str]:
    methods = [row for row in _rows(records, "methods") if row.get("ms") and not row["problems"]]
    if methods:
        rows = [(f"`{row['method']}`", f"{row['ms']:.3f}", f"{row['ms_p20']:.3f}–{row['ms_p80']:.3f}", f"{row['error']:.0e}")
                for row in methods]  # fmt: skip
        first = methods[0]
        yield (f"{_device(records)}. {first['model']} at {first['size']} px, batch {first['batch']}, {first['dtype']}, random weights; "
               "milliseconds from pixels on the device to grids, 20th to 80th percentile, largest error against float64.\n")  # fmt: skip
        yield markdown(("method", "ms", "p20–p80", "error"), rows, right=3)
    speed = [*_rows(records, "speed"), *_rows(records, "compiled")]
    # a contender of two parts: those of `speed` are beside the others
    of = {(row["config"], row["contender"]): row for row in reversed(speed)}
    configs = list(dict.fromkeys(row["config"] for row in speed))
    if configs:
        yield "GEM in milliseconds, contenders in turns; a dash where one failed or was not run.\n"
        cells = [(config, *(_ms(of.get((config, name))) for name in SPEED)) for config in configs]
        yield markdown(("model, px, batch", *SPEED.values()), cells, right=len(SPEED))


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _ms(row: Record | None) -> str:
    return f"{row['ms']:.3f}" if row and row.get("ms") and not row.get("failed") else "–"


def _rows(records: Records, part: str) -> list[Record]:
    rows: list[Record] = records.get(part, {}).get("rows", [])
    return rows


def _name(records: Records) -> str:
    return str(next(iter(records.values()))["device"])


def _device(records: Records) -> str:
    head = next(iter(records.values()))
    day = f"{head['run'][:4]}-{head['run'][4:6]}-{head['run'][6:8]}"
    return (f"{head['device']} (compute capability {head['capability']}, driver {head['driver']}), torch {head['torch']}, "
            f"triton {head['triton']}, {day}, commit {head['commit']}")  # fmt: skip


def _share(records: Records, part: str) -> str:
    """Counts of a part's checks: right, of all."""
    rows = [row for row in _rows(records, part) if not row.get("skipped") and not row.get("missing")]
    good = sum(not row.get("problems") and not row.get("failed") for row in rows)
    return f"{good} of {len(rows)} right" + (", cut short" if records[part]["left_out"] else "")


def _checks(records: Records) -> list[str]:
    words = {"gate": "checks of kernels", "methods": "methods", "parity": "checks of the engine"}
    return [f"{name}: {_share(records, part)}" for part, name in words.items() if _rows(records, part)]


def _quicker(records: Records) -> Iterator[str]:
    """Plans with one field changed whose times lie below the default plan's: the 80th percentile below its 20th."""
    rows = [row for row in _rows(records, "variants") if row.get("ms")]
    usual = {row["config"]: row for row in rows if row["contender"] == "default"}
    for row in rows:
        if row["config"] in usual and row["ms_p80"] < usual[row["config"]]["ms_p20"]:
            yield f"`{row['contender']}` at {row['config']} ({row['ms']:.3f} of {usual[row['config']]['ms']:.3f} ms)"
