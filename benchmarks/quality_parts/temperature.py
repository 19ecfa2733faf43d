"""Study of the inverse temperatures behind gem_calibrated: does GEM point at the object? One sweep at a time around a default.

    python benchmarks/quality_parts/temperature.py --real FOLDER --photographs FOLDER        # what is not in the record yet
    python benchmarks/quality_parts/temperature.py --sets embedded --sweeps rho iterations   # a part

Two sets. "embedded": the embedded model on scenes of the quality set, drawn by chance, asked as in quality.py. "real": a supervised
ViT-Tiny on photographs with masks (tests/package/test_real.py); a question for every thing that the model has a name for, all these names
given as texts. Tables are measured on pictures that are never judged with them. Every finished row is written to records/temperature.json
at once, and is not measured again.

    pointing, iou, auc   as in quality.py (iou at 0.5), means over questions; the area over every second (scenes) or fourth
                         (photographs) row and column
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from sklearn.metrics import roc_auc_score

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from fastloc.engine.calibration import at_hand, solved  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.imaging import heatmaps, images  # noqa: E402
from fastloc.recipes import recipe  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts.scenes import Scene, quality_set  # noqa: E402
from quality_parts.temperature_rows import DEFAULT, PUBLISHED, Row, rows  # noqa: E402

RECORD = HERE / "records" / "temperature.json"
# scenes of the quality set that are judged in sweeps; as many others are there to measure tables on
JUDGED, SEED = 80, 0
HALF = (0.5, 0.5, 0.5)
STREAMS = ("vv", "kk", "qq")
# blocks of the tables at the default rho, so that the sweep over blocks reads parts of one
MOST = 9


class Embedded:
    """The embedded model on its scenes."""

    words = "the embedded model; scenes of the quality set drawn by chance"
    sizes = (96, 192)

    def __init__(self, judged: int, photographs: Path | None) -> None:
        order = list(quality_set())
        random.Random(SEED).shuffle(order)
        self.judged, self.others = (order, []) if judged >= len(order) else (order[:judged], order[judged:])
        self.names = sorted({thing for scene in quality_set() for thing in scene.things})
        self.photographs = photographs

    @cache  # noqa: B019
    def localizer(self, size: int) -> Localizer:
        return Localizer(size=size, batch=16)

    def pictures(self, source: str, count: int, size: int) -> list[Image.Image]:
        if source == "unrelated scenes":
            return [scene.picture for scene in self.others[:count]]
        return _pictures(source, count, size, self.photographs)

    def judge(self, localizer: Localizer) -> dict[str, Any]:
        return summary(answers(localizer, self.judged, self.names, 2))


class Real:
    """The supervised ViT-Tiny on photographs."""

    words = "a supervised ViT-Tiny/16 (ImageNet) repacked for open_clip; 12 COCO photographs with masks"
    sizes = (224, 336, 672)

    def __init__(self, folder: Path, photographs: Path | None) -> None:
        self.folder, self.photographs = folder, photographs
        content = json.loads((folder / "photos.json").read_text(encoding="utf-8"))
        ids = {name: int(key) for key, name in content["classes"].items()}
        self.photos: list[Scene] = []
        # where there is nothing to ask for
        self.rest: list[Path] = []
        for photo in content["photos"]:
            labels = np.asarray(Image.open(folder / photo["mask"]))
            things = tuple(name for name in photo["understood"] if (labels == ids[name]).mean() > 0.01)
            if things:
                picture = images.load(folder / photo["file"])
                self.photos.append(Scene(picture, things, np.stack([labels == ids[name] for name in things])))
            else:
                self.rest.append(folder / photo["file"])
        self.names = sorted({thing for photo in self.photos for thing in photo.things})

    @cache  # noqa: B019
    def localizer(self, size: int) -> Localizer:
        config, weights = self.folder / "ViT-Ti-16-in1k.json", self.folder / "vit_tiny_in1k.safetensors"
        return Localizer(str(config), str(weights), "itsm", size=size, mean=HALF, std=HALF, template="plain")

    def pictures(self, source: str, count: int, size: int) -> list[Image.Image]:
        if source == "the other photographs":
            return [photo.picture for photo in self.photos][:count]
        return _pictures(source, count, size, self.photographs)

    def judge(self, localizer: Localizer, only: int | None = None) -> dict[str, Any]:
        return summary(self.answers(localizer, self.photos if only is None else [self.photos[only]]))

    def answers(self, localizer: Localizer, photos: list[Scene]) -> list[tuple[float, float, float]]:
        return answers(localizer, photos, self.names, 4)


def answers(localizer: Localizer, scenes: list[Scene], names: list[str], step: int) -> list[tuple[float, float, float]]:
    """Answer to every question: the peak on the thing (or not), the overlap, and the area over every `step`-th row and column."""
    found = []
    for start in range(0, len(scenes), localizer.batch):
        chunk = scenes[start : start + localizer.batch]
        for scene, result in zip(chunk, localizer([scene.picture for scene in chunk], names), strict=True):
            for heat, mask in zip(_heat(result, [names.index(thing) for thing in scene.things]), scene.masks, strict=True):
                warm = heat >= 0.5
                overlap = float((warm & mask).sum() / (warm | mask).sum())
                area = float(roc_auc_score(mask[::step, ::step].ravel(), heat[::step, ::step].ravel()))
                found.append((float(mask.flat[heat.argmax()]), overlap, area))
    return found


def _heat(result: fastloc.Result, indices: list[int]) -> np.ndarray:
    """The heatmaps of the texts with these indices; a softmax needs all texts, the other read-outs treat each alone."""
    if result.order == "softmax":
        return result.heatmaps[indices]
    return heatmaps.heatmaps(result.similarity[indices], result.geometry, result.order, result.logit_scale, result.reverse)


def summary(found: list[tuple[float, float, float]]) -> dict[str, Any]:
    means = np.mean(found, axis=0)
    scores = {name: round(float(value), 4) for name, value in zip(("pointing", "iou", "auc"), means, strict=True)}
    return {**scores, "questions": len(found)}


def _pictures(source: str, count: int, size: int, photographs: Path | None) -> list[Image.Image]:
    if source != "photographs":
        return at_hand(source, count, (size, size))
    if photographs is None:
        raise SystemExit("this row needs photographs to measure on; give --photographs FOLDER")
    return [images.load(path) for path in sorted(photographs.iterdir())[:count]]


Set = Embedded | Real


class Tables:
    """The matched temperatures of each picture, measured once: log inverse temperatures [blocks, H, S, passes]."""

    def __init__(self, judged: Set) -> None:
        self.judged = judged
        self.kept: dict[tuple[Any, ...], torch.Tensor] = {}

    def of(self, row: Row, source: str, left_out: int | None = None) -> Any:
        """The table that a row reads, as nested tuples."""
        logs = self.logs(row, source)
        if left_out is not None:
            logs = torch.cat([logs[:left_out], logs[left_out + 1 :]])
        mean = logs.mean(0)[-row.blocks :, :, [STREAMS.index(term) for term in row.terms], : row.iterations + 1]
        for axis in row.pooled:
            mean = mean.mean(axis, keepdim=True).expand_as(mean)
        return mean.exp().tolist()

    def logs(self, row: Row, source: str) -> torch.Tensor:
        layers = self.judged.localizer(row.size).source.spec.layers
        usual = row.rho == DEFAULT.rho and row.made_at == row.size == DEFAULT.at(self.judged.sizes)
        blocks = min(max(MOST if usual else DEFAULT.blocks, row.blocks), layers)
        pictures = self.judged.pictures(source, row.pictures, row.made_at)
        found = []
        for i, picture in enumerate(pictures):
            key = (row.rho, source, row.made_at, i, blocks, row.iterations)
            if key not in self.kept:
                self.kept[key] = self._solved(picture, row, blocks)
            found.append(self.kept[key])
        return torch.stack(found)

    @torch.inference_mode()
    def _solved(self, picture: Image.Image, row: Row, blocks: int) -> torch.Tensor:
        localizer = self.judged.localizer(row.made_at)
        pixels = localizer.pixels(picture, localizer.geometry(picture.size[::-1]))[None]
        full = recipe("gem_matched", rho=row.rho, blocks=blocks, iterations=row.iterations, terms=STREAMS)
        return solved(localizer.source.weights, pixels, full)[0].double().log()


def measured(judged: Set, tables: Tables, row: Row) -> dict[str, Any]:
    """One row's scores."""
    localizer = judged.localizer(row.size)
    template = {"template": "plain"} if isinstance(judged, Real) else {}
    if row.kind in PUBLISHED:
        order = {"order": row.order} if row.order else {}
        return judged.judge(localizer.with_method(row.kind, recommended=False, **template, **order))
    changes: dict[str, Any] = {"blocks": row.blocks, "iterations": row.iterations, "residual": row.residual, "terms": row.terms}
    if row.kind == "matched":
        return judged.judge(localizer.with_method("gem_matched", recommended=False, **template, **changes, rho=row.rho))
    if row.kind == "number":
        return judged.judge(localizer.with_method("gem", recommended=False, **template, **changes, inv_temp=row.number))
    source = row.source or ("unrelated scenes" if isinstance(judged, Embedded) else "photographs")
    if source != "the other photographs":
        table = tables.of(row, source)
        return judged.judge(localizer.with_method("gem", recommended=False, **template, **changes, inv_temp=table))
    assert isinstance(judged, Real)
    found = []
    for i, photo in enumerate(judged.photos):
        chosen = localizer.with_method("gem", recommended=False, **template, **changes, inv_temp=tables.of(row, source, left_out=i))
        found += judged.answers(chosen, [photo])
    return summary(found)


def todo(name: str, judged: Set, sweeps: list[str] | None) -> Iterator[Row]:
    layers = judged.localizer(DEFAULT.at(judged.sizes)).source.spec.layers
    for row in rows(name, judged.sizes, layers):
        if sweeps is None or row.sweep in sweeps:
            yield row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="weights, photographs and masks of the set 'real'")
    parser.add_argument("--photographs", type=Path, metavar="FOLDER", help="photographs to measure tables on; none of the judged ones")
    parser.add_argument("--sets", nargs="+", choices=("embedded", "real"), default=["embedded", "real"])
    parser.add_argument("--sweeps", nargs="+", metavar="NAME", help="only these (default: all)")
    args = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"rows": []}
    err = Console(stderr=True)
    for name in args.sets:
        if name == "real" and args.real is None:
            err.print("the set 'real' is left out: give --real FOLDER")
            continue
        judged: Set = Embedded(JUDGED, args.photographs) if name == "embedded" else Real(args.real, args.photographs)
        tables = Tables(judged)
        for row in todo(name, judged, args.sweeps):
            row_fields = row.to_dict(name)
            if any(all(each.get(key) == value for key, value in row_fields.items()) for each in record["rows"]):
                continue
            row_fields |= row.details()
            scores = measured(judged, tables, row)
            record["rows"].append({**row_fields, **scores})
            record |= facts(judged, name, record)
            write_text(RECORD, _lines(record))
            err.print(f"{name} {row.sweep}: {row.label} {scores}")
    return 0


def facts(judged: Set, name: str, record: dict[str, Any]) -> dict[str, Any]:
    sets = {**record.get("sets", {}), name: judged.words}
    return {"sets": sets, "judged_scenes": JUDGED, "fastloc": fastloc.__version__, "torch": torch.__version__, "dtype": "float32"}


def _lines(record: dict[str, Any]) -> str:
    """JSON with a row a line."""
    head = json.dumps({key: value for key, value in record.items() if key != "rows"}, indent=2)[:-2]
    return head + ',\n  "rows": [\n' + ",\n".join(f"    {json.dumps(row)}" for row in record["rows"]) + "\n  ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
