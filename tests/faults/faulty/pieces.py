"""Pieces of work that need no model: each way of writing that fastloc has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastloc.onnx_file.golden import unit_texts
from fastloc.text.embeddings import TextEmbeddings
from fastloc.utils.atomic_write import replacing_files, replacing_folder, write_whole
from fastloc.utils.system import files
from faulty.campaign import Contents, Subject, each, growing
from stub_evaluation import Counting, Numbers

__all__ = ["PIECES"]

CHUNK = 4


def embeddings(folder: Path) -> None:
    TextEmbeddings(("cat", "dog"), unit_texts(1, 2, 16), "plain", "b" * 64).save(folder / "texts.npz")


def picture(folder: Path) -> None:
    from PIL import Image

    shown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    write_whole(folder / "sheet.jpg", lambda file: shown.save(file, "JPEG"))


def pair(folder: Path) -> None:
    with replacing_files(folder / "x.onnx") as made:
        files.write_bytes(made / "x.onnx", b"new graph")
        files.write_bytes(made / "x.onnx.data", b"new weights" * 100)


def old_pair(folder: Path) -> None:
    (folder / "x.onnx").write_bytes(b"old graph")
    (folder / "x.onnx.data").write_bytes(b"old weights" * 90)


def a_whole_pair(old: Contents, new: Contents, now: Contents) -> str:
    """A graph stands beside its own weights; weights alone are nobody's."""
    return "" if now in (old, new) or "x.onnx" not in now else f"a graph beside other weights: {sorted(now)}"


def site(folder: Path) -> None:
    with replacing_folder(folder / "page") as made:
        files.write_text(made / "index.html", "new")
        files.make_folder(made / "samples")
        files.write_text(made / "samples" / "a.txt", "new")


def old_site(folder: Path) -> None:
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("old")
    (folder / "page" / "gone.html").write_text("old")


def rows(folder: Path, retry: bool = False) -> None:
    from fastloc.evaluation.running.row_file import RowFile
    from fastloc.evaluation.running.run import run

    dataset = Numbers(10)
    with RowFile(folder / "rows.jsonl", dataset.items(), CHUNK) as file:
        run(dataset, {"one": Counting()}, {"one": file}, threads=1, retry=retry)


def failed_rows(folder: Path) -> None:
    """Rows of which two pictures failed."""
    from fastloc.evaluation.running.row_file import RowFile
    from fastloc.evaluation.running.run import run

    dataset = Numbers(10, broken=(1, 9))
    with RowFile(folder / "rows.jsonl", dataset.items(), CHUNK) as file:
        run(dataset, {"one": Counting()}, {"one": file}, threads=1)


def records(folder: Path) -> None:
    from bench_rows import row
    from fastloc.bench.schema import SUFFIX, Log

    path = folder / f"run{SUFFIX}"
    log = Log(path)
    # what a run that goes on measures is what is missing
    done = path.read_bytes().count(b"\n") if path.exists() else 0
    for number in range(done, 4):
        log.add(row("methods", f"contender {number}", 10.0 + number))


def choice(folder: Path) -> None:
    from fastloc.runtime.choice import FORMAT, Choice, Timed, keep

    os.environ["XDG_CACHE_HOME"] = str(folder)
    keep(Choice(FORMAT, "a" * 24, "gem of a model", "a processor", {"fastloc": "1"}, "2026-11-29", (Timed("cpu", 2, 1.5, 3),)))


def engines(folder: Path) -> None:
    from fastloc.runtime.engine_cache import prepared

    prepared(folder / "engines")


def video(folder: Path) -> None:
    from clips import coded
    from fastloc.video.output.json_lines import Records
    from fastloc.video.output.writer import VideoWriter

    with Records(folder / "out.jsonl", force=True) as lines, VideoWriter(folder / "out.mp4", rate=10, force=True) as out:
        for index in range(4):
            out.write(coded(index))
            lines.write({"index": index})


def old_video(folder: Path) -> None:
    for name in ("out.jsonl", "out.mp4"):
        (folder / name).write_text("of another day")


def labels(name: str, target: str) -> Subject:
    def work(folder: Path) -> None:
        import shutil

        from fastloc.scale.labels.convert import convert

        # the command wants a name that is free
        if (folder / target).is_dir():
            shutil.rmtree(folder / target)
        elif (folder / target).exists():
            os.unlink(folder / target)
        convert(folder / "batch", name, folder / target)

    return Subject(work, a_batch, step=3)


def a_batch(folder: Path) -> None:
    from label_rows import drawn, write_batch

    write_batch(folder / "batch", drawn()[:2])


PIECES = {
    "text embeddings": Subject(embeddings, lambda folder: (folder / "texts.npz").write_bytes(b"of another day")),
    "a picture": Subject(picture),
    "a graph with its weights": Subject(pair, old_pair, a_whole_pair),
    "a page": Subject(site, old_site),
    "rows of an evaluation": Subject(rows, whole=growing),
    "rows that are tried again": Subject(lambda folder: rows(folder, retry=True), failed_rows),
    "records of a benchmark": Subject(records, whole=growing),
    "a choice of a runtime": Subject(choice, quiet=True),
    "a folder of engines": Subject(engines, kept=("engines/*",)),
    "a video and its lines": Subject(video, old_video, each, kept=("out.partial-*",), step=3),
    "labels of COCO": labels("coco", "labels.json"),
    "labels of YOLO": labels("yolo", "labels"),
}
