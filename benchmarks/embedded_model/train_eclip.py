"""Train ECLIP's projections for the embedded model on composed emoji scenes, and try the choices that the paper leaves open.

    python benchmarks/embedded_model/train_eclip.py --out runs/eclip             # the projections that ship, and their record
    python benchmarks/embedded_model/train_eclip.py --out runs/eclip --choices   # first the table of choices, on scenes of its own

Scenes are pictures with captions that name everything in them, in several wordings; masks are not used. Their seed is their own: the
quality set (benchmarks/quality_set.zip) is never trained on, and choices are compared on a third set of scenes.
"""

import argparse
import csv
import json
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageFont
from rich.progress import track

HERE = Path(__file__).resolve().parents[1]
# python -P leaves a script's folder out
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import fastloc  # noqa: E402
from embedded_model.emoji_scenes import sprites  # noqa: E402
from embedded_model.emoji_scenes.captions import full_caption  # noqa: E402
from embedded_model.emoji_scenes.compose import Scene, compose  # noqa: E402
from embedded_model.emoji_scenes.concepts import Concept, concepts  # noqa: E402
from fastloc import embedded  # noqa: E402
from fastloc.checkpoints.projections import Projections  # noqa: E402
from fastloc.eclip.features import Features  # noqa: E402
from fastloc.eclip.pairs import Left, Pair, read_pairs  # noqa: E402
from fastloc.eclip.settings import Settings  # noqa: E402
from fastloc.eclip.steps import State, take  # noqa: E402
from fastloc.eclip.trainer import PROJECTIONS, Running, train  # noqa: E402
from fastloc.engine.localizer import Localizer  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402
from gpu_parts import scenes as kept_scenes  # noqa: E402
from quality import measure  # noqa: E402

RECORD = HERE / "records" / "eclip_training.json"
# far from those of make_scenes.py and of the embedded model's training
TRAIN_SEED, CHOICES_SEED = 9_100_001, 9_100_002
SIDE, WORDINGS = 160, 3
# choices are judged with one sentence a name, because projected texts are encoded anew for each
TEMPLATE = "gem"
# a thing of which less shows than this share of the picture is not asked for
LEAST_VISIBLE = 0.008
LIKE = Settings()
# what is changed, one after the other
CHOICES: tuple[dict[str, Any], ...] = (
    {}, {"pool": "mean"}, {"attention": "none"}, {"attention": "none", "pool": "mean"},
    {"init": "shared"}, {"init": "identity"}, {"keep": 0.25}, {"mask": "soft"}, {"mask": "mean", "keep": 1.0}, {"scale": "fixed"},
    {"reverse": False},
    {"attention": "qk"}, {"attention": "qk", "reverse": False}, {"attention": "vv"}, {"attention": "vv", "reverse": False},
    {"attention": "kk"}, {"attention": "kk", "reverse": False},
)  # fmt: skip


def drawable() -> list[Concept]:
    """The concepts that the font draws, with those of their emoji that it draws."""
    font = ImageFont.truetype(str(sprites.FONT), sprites.STRIKE)
    blank = font.getmask("\U0010fffe").getbbox(), bytes(font.getmask("\U0010fffe"))

    def drawn(emoji: str) -> bool:
        shape = font.getmask(emoji)
        return shape.getbbox() is not None and (shape.getbbox(), bytes(shape)) != blank

    rows = [replace(row, emoji=tuple(emoji for emoji in row.emoji if drawn(emoji))) for row in concepts()]
    return [row for row in rows if row.emoji]


def drawn_scenes(seed: int, count: int, vocabulary: list[Concept]) -> Iterator[tuple[Scene, list[str]]]:
    rng = np.random.default_rng(seed)
    for _ in track(range(count), "drawing", transient=True):
        scene = compose(rng, vocabulary, (SIDE, SIDE))
        yield scene, [full_caption(rng, scene).text for _ in range(WORDINGS)]


def write_pairs(folder: Path, count: int, vocabulary: list[Concept]) -> None:
    """A folder of pictures and its captions.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("image", "caption"))
        for index, (scene, captions) in enumerate(drawn_scenes(TRAIN_SEED, count, vocabulary)):
            scene.picture.save(folder / f"{index:05}.webp", quality=85, method=2)
            table.writerows((f"{index:05}.webp", caption) for caption in captions)


def choice_scenes(count: int, vocabulary: list[Concept]) -> list[kept_scenes.Scene]:
    found = []
    for scene, _ in drawn_scenes(CHOICES_SEED, 3 * count, vocabulary):
        if all(mask.mean() >= LEAST_VISIBLE for mask in scene.masks):
            found.append(kept_scenes.Scene(scene.picture, tuple(thing.name for thing in scene.things), np.stack(scene.masks)))
        if len(found) == count:
            break
    return found


def compare(localizer: Localizer, pairs: list[Pair], steps: int, count: int, vocabulary: list[Concept]) -> Iterator[dict[str, Any]]:
    """A row a choice: what differs from the defaults, the last loss, and how the map does on scenes of its own."""
    scenes, names = choice_scenes(count, vocabulary), sorted({row.name for row in vocabulary})
    asked = {"batch": 16, "template": TEMPLATE}
    for each in ("itsm", "rclip"):
        yield {"method": each, **measure(Localizer(method=each, **asked), scenes, names)}
    features: dict[str, Features] = {}
    for changes in CHOICES:
        settings = replace(LIKE, steps=steps, **changes)
        kind = LIKE.attention if settings.attention == "none" else settings.attention
        if kind not in features:
            # one at a time in memory
            features = {kind: Features(localizer, pairs, replace(settings, attention=kind), Left(), 4 << 30, None, 2)}
            for _ in features[kind].fill():
                pass
        state = State(settings, localizer.source.vit.spec.embed, localizer.device)
        while state.step < steps:
            taken = take(state, features[kind])
        made = projections(localizer, state)
        found = measure(Localizer(method="eclip", projections=made, **asked), scenes, names)
        yield {"method": "eclip", "changes": changes, "loss": round(taken.loss, 3), "scale": round(taken.scale, 1), **found}


def projections(localizer: Localizer, state: State) -> Projections:
    from fastloc.checkpoints.digests import digest

    source = localizer.source
    return Projections(state.image.detach(), state.text.detach(), source.name, digest(source.vit), source.text.digest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/eclip"))
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=LIKE.steps)
    font = "Noto Color Emoji; concepts that an older one does not draw are left out"
    parser.add_argument("--font", type=Path, default=sprites.FONT, help=font)
    parser.add_argument("--choices", action="store_true", help="compare the choices first, on a part of the scenes")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    if not args.font.is_file():
        parser.error(f"{args.font} is missing: install Debian's package fonts-noto-color-emoji, or give --font")
    sprites.FONT = args.font
    began, vocabulary, pairs_at = time.monotonic(), drawable(), args.out / "pairs"
    if not (pairs_at / "captions.csv").exists():
        write_pairs(pairs_at, args.scenes, vocabulary)
    localizer = Localizer(method="itsm", fit=LIKE.fit, device="cpu")
    pairs = read_pairs([pairs_at], Left(strict=True))
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if args.choices:
        some = pairs[: len(pairs) // 2]
        rows: list[dict[str, Any]] = []
        record["choices"] = {"pairs": len(some), "steps": 300, "judged_on": 120, "template": TEMPLATE, "rows": rows}
        for row in compare(localizer, some, 300, 120, vocabulary):
            print(json.dumps(row), flush=True)
            rows.append(row)
            # what is done is kept, whatever becomes of the rest
            write(record)
        return
    settings, curve = replace(LIKE, steps=args.steps), []

    def report(name: str, done: int, total: int, taken: Any) -> None:
        if taken is not None:
            curve.append(asdict(taken))

    made = train(localizer, pairs, args.out / "run", settings, Running(resume=args.resume), Left(strict=True), report)
    made.save(embedded.ECLIP)
    made.save(args.out / "run" / PROJECTIONS)
    scenes = kept_scenes.quality_set()
    judged = {name: measure(Localizer(method=name, batch=16), scenes, kept_scenes.names()) for name in ("itsm", "rclip", "eclip")}
    every = max(1, len(curve) // 50)
    record |= {
        "settings": dict(made.settings), "data": {"scenes": len(pairs), "wordings": WORDINGS, "side": SIDE, "seed": TRAIN_SEED,
        "concepts": len(vocabulary), "of": len(concepts()), "font": sprites.FONT.name, "font_bytes": sprites.FONT.stat().st_size},
        "tower": made.tower, "text_tower": made.text_tower, "curve": [*curve[::every], curve[-1]], "quality": judged,
        "seconds": round(time.monotonic() - began), "threads": torch.get_num_threads(), "machine": platform.machine(),
        "fastloc": fastloc.__version__, "torch": torch.__version__,
    }  # fmt: skip
    write(record)
    print(json.dumps(judged, indent=2))


def write(record: dict[str, Any]) -> None:
    write_text(RECORD, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
