"""The study of read-outs: a patch behind an attention pool, and with RoPE rotated or unrotated self-self attention, on the quality set.

    python benchmarks/quality_parts/readouts.py packed/siglip                              # a table
    python benchmarks/quality_parts/readouts.py packed/siglip --kept siglip.npz --record   # also writes benchmarks/records/readouts.json

The folders are those of embedded_model/pack_tower.py: a small SigLIP and a small PE, trained on the kind of scenes that the embedded CLIP
was trained on. Every method of patch features is measured with its official parameters, and with those that are recommended for the
embedded CLIP where they differ, in each option:

    patch_read  "pool", the whole pool makes of a patch what it would make of a picture of this patch alone, or "value", its values and
                out-projection alone, without the MLP behind them
    rotary      queries and keys of the method's own attention are rotated as in the main path, or not; values never are

Methods of gradients and attention have no options, and those that do not run on such a pool say why; a record names those that were left
out with --methods. Errors are standard errors of a bootstrap over
scenes; differences are of the same scenes, and are resampled together. --kept holds what is done, so that a run can be taken up again.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.errors import FastlocError  # noqa: E402
from fastloc.functional.folding import letters  # noqa: E402
from fastloc.recipes import RECIPES, Recipe  # noqa: E402
from fastloc.utils.atomic_write import write_text, write_whole  # noqa: E402
from gpu_parts.scenes import Scene, names, quality_set  # noqa: E402
from quality import MEASURES, auc, judged  # noqa: E402

RECORD = HERE / "records" / "readouts.json"
REPORTED = ("pointing", "auc")
RESAMPLES, SEED = 4000, 5
# a method whose AUC is less localises badly on such a tower, and says little about how it is best read
WORKS = 0.7
# facts of the training that a folder holds
TRAINING = "training.json"

Array = np.ndarray[Any, np.dtype[np.float64]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """One way to run a method: its parameters, and its options, None where it has none."""

    method: str
    parameters: str
    patch_read: str | None
    rotary: bool | None

    @property
    def key(self) -> str:
        return "/".join(map(str, (self.method, self.parameters, self.patch_read, self.rotary)))

    def localizer(self, model: Localizer) -> Localizer:
        changes: dict[str, Any] = {} if self.patch_read is None else {"patch_read": self.patch_read}
        if self.rotary is not None:
            changes["rotary"] = self.rotary
        return model.with_method(self.method, recommended=self.parameters != "official", **changes)


def methods() -> list[str]:
    """The methods that need nothing trained or measured beforehand."""
    return [name for name, row in RECIPES.items() if not row.trained and (row.rho is None or row.inv_temp == "matched")]


def options(model: Localizer, asked: list[str]) -> Iterator[Option]:
    """The methods asked for, in each of their options."""
    spec = model.source.vit.spec
    for name, row in RECIPES.items():
        if name not in asked:
            continue
        different = model.with_method(name).recipe != model.with_method(name, recommended=False).recipe
        for parameters in ("official", "recommended") if different else ("official",):
            for read in ("pool", "value") if row.reads == "patches" else (None,):
                for rotary in (True, False) if spec.rope is not None and _rotates(row) else (None,):
                    yield Option(name, parameters, read, rotary)


def _rotates(row: Recipe) -> bool:
    """The method has an attention of its own that reads queries or keys."""
    return row.path != "local" or not {"q", "k"}.isdisjoint(letters(*row.streams))


def measured(model: Localizer, asked: list[str], scenes: tuple[Scene, ...], kept: Path | None) -> tuple[dict[Option, Array], list[Row]]:
    """The scores [questions, MEASURES] of every option, and the methods that do not run, with the reason."""
    done = dict(np.load(kept)) if kept is not None and kept.exists() else {}
    found, refused = {}, []
    for option in options(model, asked):
        if option.key not in done:
            try:
                done[option.key] = np.concatenate(judged(option.localizer(model), scenes, names()))
            except FastlocError as error:
                refused.append({"method": option.method, "reason": str(error)})
                continue
            if kept is not None:
                write_whole(kept, lambda file: np.savez(file, **done))
        found[option] = done[option.key]
        line = " ".join(f"{name} {value:.3f}" for name, value in zip(MEASURES, found[option].mean(0), strict=True))
        print(f"{option.key:44} {line}", file=sys.stderr, flush=True)
    return found, refused


class Bootstrap:
    """Resampled scenes, the same for everything that is asked, so that differences are those of pairs."""

    def __init__(self, counts: list[int]) -> None:
        rng = np.random.default_rng(SEED)
        self.scene = np.repeat(np.arange(len(counts)), counts)
        self.weights = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), RESAMPLES)[:, self.scene].astype(np.float64)

    def __call__(self, values: Array) -> Array:
        """The means of values [questions, ...] over each resample: [RESAMPLES, ...]."""
        return np.einsum("rq,q...->r...", self.weights, values) / self.weights.sum(1).reshape(-1, *[1] * (values.ndim - 1))

    def summary(self, values: Array) -> Row:
        """Mean and standard error of what REPORTED names, of values [questions, MEASURES]."""
        columns = [MEASURES.index(name) for name in REPORTED]
        means, errors = values[:, columns].mean(0), self(values[:, columns]).std(0)
        return {
            key: round(float(value), 4)
            for name, mean, error in zip(REPORTED, means, errors, strict=True) for key, value in ((name, mean), (f"{name}_se", error))
        }  # fmt: skip


def rows_of(found: dict[Option, Array], again: Bootstrap) -> list[Row]:
    return [{**vars(option), **again.summary(values)} for option, values in found.items()]


# what an option is compared with: field, the one, the other
PAIRS: tuple[tuple[str, Any, Any], ...] = (("patch_read", "value", "pool"), ("rotary", False, True))


def differences(found: dict[Option, Array], again: Bootstrap) -> list[Row]:
    """The one option less the other, for each method and for means over methods; positive where the one is better.

    Means are over all methods, and over those that localise: AUC of WORKS or more in one of the two options.
    """
    rows: list[Row] = []
    for field, one, other in PAIRS:
        pairs, works = [], []
        for option, values in found.items():
            if getattr(option, field) != one:
                continue
            against = found.get(Option(**{**vars(option), field: other}))
            if against is not None:
                pairs.append(values - against)
                works.append(max(each[:, MEASURES.index("auc")].mean() for each in (values, against)) >= WORKS)
                rows.append({**vars(option), "of": field, field: f"{one} - {other}", **again.summary(pairs[-1])})
        for over, chosen in (("all", pairs), ("works", [pair for pair, good in zip(pairs, works, strict=True) if good])):
            if chosen:
                mean = again.summary(np.mean(chosen, 0))
                rows.append({"method": "mean", "over": over, "of": field, "pairs": len(chosen), field: f"{one} - {other}", **mean})
    return rows


def presence(model: Localizer, scenes: tuple[Scene, ...]) -> float:
    """The area under the ROC curve of the picture's cosines with all names, of those that are there."""
    asked = model.with_method("maskclip")
    cosines, there = [], []
    for start in range(0, len(scenes), model.batch):
        chunk = scenes[start : start + model.batch]
        for scene, result in zip(chunk, asked([each.picture for each in chunk], names()), strict=True):
            cosines.append(result.image_scores)
            there.append([name in scene.things for name in names()])
    found, is_there = np.concatenate(cosines), np.concatenate(there)
    return auc(found[is_there], found[~is_there])


def section(folder: Path, asked: list[str], scenes: tuple[Scene, ...], kept: Path | None) -> Row:
    """One tower's part of the record."""
    model = Localizer(str(folder), batch=16, device="cpu")
    found, refused = measured(model, asked, scenes, kept)
    again = Bootstrap([len(scene.things) for scene in scenes])
    training = folder / TRAINING
    return {
        "training": json.loads(training.read_text(encoding="utf-8")) if training.exists() else None,
        "presence_auc": round(presence(model, scenes), 4), "rows": rows_of(found, again), "differences": differences(found, again),
        "refused": refused, "date": datetime.now(UTC).date().isoformat(), "commit": _commit(), "fastloc": fastloc.__version__,
        "torch": torch.__version__, "machine": f"{platform.machine()}, {torch.get_num_threads()} threads", "dtype": "float32",
    }  # fmt: skip


def _commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, encoding="utf-8", check=False)
    return asked.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a model folder of pack_tower.py; its name is the tower's in the record")
    parser.add_argument("--methods", nargs="+", default=methods(), choices=methods(), metavar="METHOD")
    parser.add_argument("--limit", type=int, help="measure only the first scenes")
    parser.add_argument("--kept", type=Path, help="file (.npz) of measurements that a later run resumes from")
    parser.add_argument("--record", action="store_true", help="write the tower's section of the record")
    args = parser.parse_args(arguments)
    lacking = [name for name in methods() if name not in args.methods]
    if args.record and (args.limit or any(RECIPES[name].reads == "patches" for name in lacking)):
        parser.error("a record must be of all scenes and all methods of patch features; leave --limit and methods out")
    scenes = quality_set()[: args.limit]
    tower = {**section(args.folder, args.methods, scenes, args.kept), "lacking": lacking}
    if args.record:
        before = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
        towers = {**before.get("towers", {}), args.folder.name: tower}
        head = {"scenes": len(scenes), "questions": sum(len(scene.things) for scene in scenes), "resamples": RESAMPLES, "works": WORKS}
        write_text(RECORD, json.dumps({**head, "towers": towers}, indent=1) + "\n")
    else:
        print(json.dumps(tower, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
