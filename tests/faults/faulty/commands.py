"""Commands that write, run as the command line does. What takes long and writes nothing is made once: a trace, a golden, a measurement."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from faulty.campaign import Contents, Subject, each, growing
from faulty.shards import nearly_the_same, whole_shards

__all__ = ["commands"]


def commands(shared: Path) -> dict[str, Subject]:
    """The commands, with what they share in this folder. Loads PyTorch, and nothing that starts threads: children are forked."""
    _stand_ins(shared)
    photos, data, clip = _photos(shared / "photos"), _data(shared / "set"), _clip(shared / "clip.mp4")
    gem, rows = str(_gem()), shared / "rows"
    runs = _runs(shared / "runs", data)

    def batch(*more: str) -> Callable[[Path], int]:
        return lambda folder: _run("batch", photos, "-t", "cat", "-o", folder / "rows", "--model", gem, "--shard", "2", "--batch", "2",
                                   "--threads", "1", *more)  # fmt: skip

    return {
        "export": Subject(lambda folder: _run("export", "-o", folder / "gem.onnx", "--for", "triton"), _old("gem.onnx"), each),
        "export-text": Subject(lambda folder: _run("export-text", "-o", folder / "text.onnx"), _old("text.onnx")),
        "embed": Subject(lambda folder: _run("embed", "cat", "dog", "-o", folder / "texts.npz"), _old("texts.npz")),
        "calibrate": Subject(lambda folder: _run("calibrate", "--from", "noise", "-o", folder / "t.json"), _old("t.json")),
        "video": Subject(
            lambda folder: _run("video", clip, "-t", "cat", "-o", folder / "out.mp4", "--json", folder / "out.jsonl", "--force"),
            _old("out.mp4", "out.jsonl"), each, kept=("out.partial-*",),
        ),
        "evaluate": Subject(
            lambda folder: _run("evaluate", "folder", "--data", data, "--protocol", "plain", "--threads", "1", "-o", folder / "run"),
            whole=_a_run, short=_a_short_run,
        ),
        "batch": Subject(batch(), whole=_a_batch, short=whole_shards, same=nearly_the_same),
        "batch convert": Subject(
            lambda folder: _run("batch convert", rows, "--to", "coco", "-o", _free(folder / "labels.json")),
        ),
        "verify": Subject(lambda folder: _run("verify", gem, "--providers", "cpu", "--threads", "1", "--json")),
        "demo": Subject(lambda folder: _run("demo", "-o", folder / "demo.png"), _old("demo.png")),
        "explain": Subject(
            lambda folder: _run("explain", photos / "0.png", "-t", "cat", "--methods", "gem", "clearclip", "-o", folder / "sheet.png",
                                "--html", folder / "sheet.html", "--runs", "1"),
            _old("sheet.png", "sheet.html"), _a_sheet,
        ),
        "analyze": Subject(
            lambda folder: _run("analyze", photos / "0.png", "-t", "cat", "--negatives", "dog", "-o", folder / "found"), whole=each
        ),
        "registers": Subject(
            lambda folder: _run("registers", photos / "0.png", "-o", folder / "neurons.json", "--ratio", "1.1", "--top", "1"),
            _old("neurons.json"),
        ),
        "pipeline": Subject(
            lambda folder: _run("pipeline", folder / "gem.onnx", "--for", "triton"),
            _copied(Path(gem), _gem().with_name("model.safetensors")), each,
        ),
        "evaluate compare": Subject(
            lambda folder: _run("evaluate compare", *runs, "-o", folder / "compared.html"), _old("compared.html")
        ),
        "locate": Subject(
            lambda folder: _run("locate", photos / "0.png", "-t", "cat", "--model", gem, "-o", folder / "maps", "--npz"), whole=each
        ),
    }  # fmt: skip


def _run(*words: object) -> int:
    from fastloc import cli

    first, *more = map(str, words)
    return int(cli.main([*first.split(), *more]))


def _old(*names: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes(b"of another day")

    return put


def _copied(*paths: Path) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for path in paths:
            (folder / path.name).write_bytes(path.read_bytes())

    return put


def _free(path: Path) -> Path:
    path.unlink(missing_ok=True)
    return path


def _a_run(old: Contents, new: Contents, now: Contents) -> str:
    """Rows are the first ones, in whole; every other file is whole."""
    halves = [name for name, content in now.items() if not name.endswith("rows.jsonl") and content != new.get(name)]
    rows = {name: content for name, content in now.items() if name.endswith("rows.jsonl")}
    return f"half written: {halves}" if halves else growing(old, new, rows)


def _a_short_run(old: Contents, new: Contents, now: Contents) -> str:
    """Rows are the first ones, in whole, but for pictures for which memory ran out; where there are such, the other files count them."""
    rows = {name: content.splitlines() for name, content in now.items() if name.endswith("rows.jsonl")}
    if not any(b'"short":true' in line for lines in rows.values() for line in lines):
        return _a_run(old, new, now)
    pairs = {name: zip(lines, new[name].splitlines(), strict=False) for name, lines in rows.items()}
    wrong = [name for name, each in pairs.items() if any(one != other and b'"short":true' not in one for one, other in each)]
    return f"other rows: {wrong}" if wrong else ""


def _a_sheet(old: Contents, new: Contents, now: Contents) -> str:
    """Every file is the old one or a whole one, in which a method that ran out of memory may say so."""
    ends = {"sheet.png": b"IEND\xaeB`\x82", "sheet.html": b"</html>"}
    halves = [name for name, content in now.items() if content != old.get(name) and not content.strip().endswith(ends[name])]
    return f"half written: {halves}" if halves or now.keys() != new.keys() else ""


def _a_batch(old: Contents, new: Contents, now: Contents) -> str:
    """Every shard is whole; the manifest is that of the beginning or of the end."""
    halves = [name for name, content in now.items() if name.endswith(".parquet") and content != new.get(name)]
    manifest = now.get("rows/manifest.json", b"{}")
    return f"half written: {halves}" if halves or not manifest.strip().endswith(b"}") else ""


def _stand_ins(shared: Path) -> None:
    import torch

    from fastloc import Localizer
    from fastloc.analysis import explain
    from fastloc.cli import video
    from fastloc.cli.measure import calibrate
    from fastloc.engine import calibration
    from fastloc.export import to_onnx
    from fastloc.export.text import export as text
    from video_command import StandIn

    assert torch.get_num_threads() == 1, "OMP_NUM_THREADS=1: threads do not come through a fork"
    gem = _gem()

    def graph(parts: object) -> Any:
        import onnx
        import onnx_ir

        # its weights lie in a file beside it, and are loaded too
        return onnx_ir.from_proto(onnx.load(str(gem)))

    to_onnx.trace, to_onnx._verify = graph, lambda path: None
    localizer = Localizer("embedded", None, "itsm")
    table = calibration.calibrate(localizer, calibration.at_hand("noise", 1, (64, 64)), rho=0.7, blocks=2, iterations=1, source="noise")
    calibration.calibrate = lambda *given, **more: table
    calibrate._spread = lambda *given: np.ones((1, table.blocks, 1, 1, table.iterations + 1), np.float32)
    video.engine = lambda args: StandIn()
    # milliseconds are drawn
    explain._timed = lambda *given: 1.0
    found = to_onnx.golden_of
    kept: list[Any] = []

    def golden(*given: Any) -> Any:
        kept.extend([] if kept else [found(*given)])
        return kept[0]

    to_onnx.golden_of = golden
    _traced_once(text)
    (shared / "first").mkdir()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        _run("export", "-o", shared / "first" / "gem.onnx")
        _run("export-text", "-o", shared / "first" / "text.onnx")
    assert kept, "the golden is made here, once"
    from label_rows import drawn, write_batch

    write_batch(shared / "rows", drawn())


def _traced_once(text: Any) -> None:
    """A text tower is traced by the first export, and read by the others; no session, which would start threads, compares it."""
    import onnx

    trace, made = text._traced, list[bytes]()

    def traced(*given: Any) -> Any:
        made.extend([] if made else [trace(*given).SerializeToString()])
        return onnx.load_from_string(made[0])

    text._traced, text._compare = traced, lambda *given: None


def _gem() -> Path:
    from fastloc.embedded import GEM_ONNX

    return Path(os.fspath(GEM_ONNX))


def _photos(folder: Path) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0)
    for index in range(5):
        coarse = Image.fromarray(noise.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((64, 48)).save(folder / f"{index}.png")
    return folder


def _data(folder: Path) -> Path:
    for name in ("pictures", "masks"):
        (folder / name).mkdir(parents=True)
    noise = np.random.default_rng(1)
    for index in range(10):
        Image.fromarray(noise.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / "pictures" / f"{index}.png")
        Image.fromarray(noise.integers(0, 3, (48, 64), np.uint8)).save(folder / "masks" / f"{index}.png")
    (folder / "names.txt").write_text("background\ncat\npizza\n")
    return folder


def _runs(folder: Path, data: Path) -> list[Path]:
    """The folders of two methods' runs, made in a child: an evaluation starts threads."""
    from faulty.child import carried_out

    words = ("evaluate", "folder", "--data", data, "--protocol", "plain", "--threads", "1", "--method", "gem", "clearclip")
    ended = carried_out(lambda: _run(*words, "-o", folder))
    assert ended.status == 0, ended.printed
    return [path.parent for path in sorted(folder.rglob("rows.jsonl"))]


def _clip(path: Path) -> Path:
    from clips import colours, write_clip

    return write_clip(path, colours(4))
