"""Memory of a run over very many pictures: a synthetic stream, a stub for the model, and the real reader, rows, figures and resumption.

    python benchmarks/evaluate_parts/stream.py                        # 10^5 pictures
    python benchmarks/evaluate_parts/stream.py --pictures 3000
    python benchmarks/evaluate_parts/stream.py --json

Prints how memory grows with the pictures (after a tenth of them, by least squares), the bytes of a row, pictures a second around the stub,
and the time and memory of the figures with their intervals.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fastloc.evaluation.metrics.summary import Summary
from fastloc.evaluation.protocols.table import protocol_of
from fastloc.evaluation.rows import Row
from fastloc.evaluation.running.pipeline import workers
from fastloc.evaluation.running.row_file import RowFile
from fastloc.evaluation.running.run import CHUNK, run
from fastloc.evaluation.samples import Item, Sample

# of the set: as COCO-Stuff has them
CLASSES, PRESENT, PREDICTED = 171, 8, 16
SIDES = (96, 128)


class Stream:
    """Pictures that are made as they are read, with blocks of labels; one of a thousand has none."""

    name, task, background = "stream", "labels", False
    classes = tuple(f"class {number}" for number in range(CLASSES))

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures

    def items(self) -> Sequence[Item]:
        """All samples."""
        return [Item(f"{number:012d}", number) for number in range(self.pictures)]

    def read(self, item: Item) -> Sample:
        """The picture of a number."""
        random = np.random.default_rng(item.picture)
        labels = random.choice(CLASSES, PRESENT).astype(np.int16)[random.integers(0, PRESENT, (6, 8))].repeat(16, 0).repeat(16, 1)
        return Sample(item.key, Image.fromarray(random.integers(0, 256, (*SIDES, 3), np.uint8)), labels)


class Stub:
    """Stand-in for a model and a judge: half of the pixels right, the others of a few classes."""

    def prepare(self, sample: Sample) -> Sample:
        """The sample."""
        return sample

    def judge(self, prepared: Sequence[Sample]) -> list[Row]:
        """Rows as those of a judge of labels."""
        return [self._row(sample) for sample in prepared]

    def _row(self, sample: Sample) -> Row:
        assert sample.labels is not None
        random = np.random.default_rng(int(sample.key))
        guesses = random.choice(CLASSES, PREDICTED)[random.integers(0, PREDICTED, SIDES)]
        predicted = np.where(random.random(SIDES) < 0.5, sample.labels, guesses)
        pairs, counts = np.unique(sample.labels.astype(np.int64) * CLASSES + predicted, return_counts=True)
        found = zip(pairs.tolist(), counts.tolist(), strict=True)
        return Row(sample.key, tuple((pair // CLASSES, pair % CLASSES, count) for pair, count in found))


def resident() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1e6


def measured(pictures: int, folder: Path) -> dict[str, float]:
    """The measurements of the module's docstring, of so many pictures."""
    stream, path = Stream(pictures), folder / "rows.jsonl"
    done, every = 0, max(pictures // 200, 1)
    seen: list[tuple[int, float]] = []

    def report(name: str, rows: Sequence[Row], new: bool) -> None:
        nonlocal done
        if done // every != (done + len(rows)) // every:
            seen.append((done, resident()))
        done += len(rows)

    items, began = stream.items(), time.perf_counter()
    with RowFile(path, items, CHUNK) as file:
        run(stream, {"stub": Stub()}, {"stub": file}, threads=workers(), report=report)
        ran, before = time.perf_counter() - began, resident()
        summary = Summary.of(file.read, stream.classes, protocol_of("gem", "stream", "plain"))
        summed = time.perf_counter() - began - ran
    kept = np.array(seen[len(seen) // 10 :])
    slope = np.polyfit(kept[:, 0] / 1000, kept[:, 1], 1)[0]
    return {
        "pictures": pictures, "pictures_per_second": pictures / ran, "memory_slope_mb_per_1000": float(slope),
        "memory_first_mb": float(kept[0, 1]), "memory_last_mb": float(kept[-1, 1]), "bytes_per_picture": path.stat().st_size / pictures,
        "figures_seconds": summed, "figures_memory_mb": resident() - before, "result_bytes": len(summary.dumps()),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000, metavar="N", help="length of the stream (default: 100000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args.pictures, Path(folder))
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for name, value in found.items():
        print(f"{name:<26}{value:,.3f}")


if __name__ == "__main__":
    main()
