"""Train the embedded CLIP, or another tower of its size, on composed emoji scenes, from image-level captions alone.

    python benchmarks/embedded_model/train.py --minutes 100 --out runs/embedded
    python benchmarks/embedded_model/train.py --minutes 75 --tower siglip --embedded-text --batch 64 --out runs/siglip
    python benchmarks/embedded_model/train.py --minutes 54 --tower device --batch 16 --rate 1.5e-3 --out runs/device

Resumable: the same command goes on from the last checkpoint in --out. The learning rate follows the share of the time (or
of --steps) that is used up, so a run fits its budget on any machine. The loss is CLIP's symmetric cross-entropy, or SigLIP's of pairs,
with one change: a caption counts as a positive of every picture in the batch that it is true of, as read off the full captions. The tower
for devices learns the embedded model's own maps instead (`distil.py`).
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader, IterableDataset

HERE = Path(__file__).resolve().parents[1]
# the packages of benchmarks/ are found wherever this is started
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from embedded_model.distil import WEIGHTS, Distillation  # noqa: E402
from embedded_model.emoji_scenes.captions import ARTICLES, JOINS, LISTS, Caption, full_caption, partial_caption  # noqa: E402
from embedded_model.emoji_scenes.compose import compose  # noqa: E402
from embedded_model.emoji_scenes.concepts import concepts, names  # noqa: E402
from embedded_model.towers import TOWERS, Tower, build, config, embedded_text, set_drop  # noqa: E402
from fastloc.text.templates import sentences  # noqa: E402
from fastloc.utils.atomic_write import write_text  # noqa: E402

TEMPLATES = sentences("surgery85")
# patches are dropped until this share of the run, which halves the cost of a step
DROP_UNTIL, DROP = 0.75, 0.5
WARM_UP = 0.03
# learning rate of a text tower that is trained already, in that of the image tower
TEXT_PACE = 0.2


@dataclass
class Progress:
    """Progress of a training, which a checkpoint carries beside the weights."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    # running mean, None before the first step
    loss: float | None = None


class Scenes(IterableDataset):
    """Batches of (pixels uint8 [B,H,W,3], captions, truths), one stream a worker, never the same scene twice."""

    def __init__(self, batch: int, size: int, seed: int, partials: int) -> None:
        self.batch, self.size, self.seed, self.partials = batch, size, seed, partials

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        vocabulary = concepts()
        while True:
            scenes = [compose(rng, vocabulary, (self.size, self.size)) for _ in range(self.batch)]
            captions = [full_caption(rng, scene) for scene in scenes]
            for _ in range(self.partials):
                captions += [partial_caption(rng, scene, TEMPLATES) for scene in scenes]
            pixels = torch.from_numpy(np.stack([np.asarray(scene.picture) for scene in scenes]))
            yield pixels, captions, [scene.truths for scene in scenes]


class Vocabulary:
    """The token ids that captions can hold, in order, so that training carries a table of hundreds of rows, not 49408."""

    def __init__(self, context_length: int) -> None:
        self.tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
        self.ids = torch.unique(self.tokenizer(["", *names(), *TEMPLATES, *_phrasings()]))

    def __call__(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts)
        rows = torch.searchsorted(self.ids, tokens)
        if not torch.equal(self.ids[rows.clamp(max=len(self.ids) - 1)], tokens):
            raise ValueError(f"a caption holds a token outside the vocabulary: {texts}")
        return rows


def _phrasings() -> list[str]:
    return [text.format(article + join.join(["cat", "dog"])) for text in LISTS for join in JOINS for article in ARTICLES]


def matches(captions: list[Caption], truths: list[frozenset[str]]) -> torch.Tensor:
    """bool [images, captions]: everything the caption names is in the picture, by the words of the captions."""
    index = {name: i for i, name in enumerate(names())}
    asserted = torch.zeros(len(captions), len(index))
    held = torch.zeros(len(truths), len(index))
    for row, caption in zip(asserted, captions, strict=True):
        row[[index[name] for name in caption.names]] = 1
    for row, words in zip(held, truths, strict=True):
        row[[index[name] for name in words]] = 1
    return held @ asserted.T >= asserted.sum(1)


def normalise(pixels: torch.Tensor, tower: Tower) -> torch.Tensor:
    """uint8 [B,H,W,3] to float [B,3,H,W] with the tower's mean and deviation."""
    mean, std = torch.tensor(tower.mean, device=pixels.device), torch.tensor(tower.std, device=pixels.device)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def optimizer_of(model: torch.nn.Module, rate: float, scalars: float, text: float) -> torch.optim.AdamW:
    """AdamW; `scalars` and `text` are the paces of the logits' scale and bias and of the text tower, in the rate of the rest."""
    groups: dict[tuple[float, float], list[torch.Tensor]] = {}
    for name, weights in model.named_parameters():
        if not weights.requires_grad:
            continue
        pace = scalars if weights.ndim == 0 else 1.0 if name.startswith("visual.") else text
        groups.setdefault((pace, 0.05 if weights.ndim >= 2 else 0.0), []).append(weights)
    rows = [{"params": params, "pace": pace, "weight_decay": decay} for (pace, decay), params in groups.items()]
    return torch.optim.AdamW(rows, lr=rate, betas=(0.9, 0.98))


def rate_at(share: float, peak: float) -> float:
    """Linear warm-up, then a cosine to nearly zero; `share` of the run in [0, 1]."""
    if share < WARM_UP:
        return peak * (share / WARM_UP + 0.02)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))))


def save(path: Path, model: open_clip.CLIP, optimizer: torch.optim.Optimizer, progress: Progress, vocabulary: Vocabulary) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": vars(progress), "token_ids": vocabulary.ids}
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    shape, tower = config(), TOWERS[args.tower]
    vocabulary = Vocabulary(shape["text_cfg"]["context_length"])
    model = build(tower, len(vocabulary.ids), DROP)
    if args.embedded_text or tower.distilled:
        embedded_text(model, vocabulary.ids)
    if tower.distilled:
        device = "cpu"
        freeze_text(model)
    model.to(device)
    optimizer = optimizer_of(model, args.rate, tower.pace, TEXT_PACE if args.embedded_text else 1.0)
    progress = Progress()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        progress = Progress(**state["progress"])
        print(f"resuming at step {progress.step}, {progress.seconds / 60:.1f} minutes in", flush=True)
    if args.compile:
        model.visual.compile()
    facts: dict[str, Any] = {"partial_captions": args.partials, "patch_dropout": DROP, "patch_dropout_until": DROP_UNTIL}
    size = shape["vision_cfg"]["image_size"]
    if tower.distilled:
        model.visual.to(memory_format=torch.channels_last)
        distilled = Distillation(model, tower, args.out / "scenes", size=size, seed=args.seed, batch=args.batch)
        loop(args, model, optimizer, progress, vocabulary, lambda: distilled(progress.images), lambda: distilled.words)
        facts = {"teacher": "the embedded model with gem", "scenes": len(distilled.pool), "weights": WEIGHTS,
                 "final_parts": {name: round(value, 4) for name, value in distilled.means.items()}}  # fmt: skip
    else:
        # a resumed run must not see its first scenes again
        scenes = Scenes(args.batch, size, args.seed + progress.step, args.partials)
        batches = iter(DataLoader(scenes, batch_size=None, num_workers=args.workers, prefetch_factor=4))
        loop(args, model, optimizer, progress, vocabulary, lambda: captioned(model, tower, vocabulary, batches, device), lambda: "")
    save(checkpoint, model, optimizer, progress, vocabulary)
    record = {
        "tower": args.tower, "embedded_text": args.embedded_text or tower.distilled,
        "seed": args.seed, "steps": progress.step, "images": progress.images, "seconds": round(progress.seconds), "batch": args.batch,
        "final_loss": round(progress.loss or 0.0, 4),
        "peak_rate": args.rate, **facts,
        "concepts": len(concepts()), "names": len(names()), "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__, "open_clip": open_clip.__version__,
    }
    write_text(args.out / "record.json", json.dumps(record, indent=2) + "\n")


def freeze_text(model: open_clip.CLIP) -> None:
    """Leave the text tower and the logits' scale as the embedded model has them."""
    from fastloc.embedded import MODEL

    with safe_open(MODEL, "pt") as file, torch.no_grad():
        model.logit_scale.copy_(file.get_tensor("logit_scale").float())
    for name, weights in model.named_parameters():
        weights.requires_grad_(name.startswith("visual."))


def captioned(model, tower, vocabulary, batches, device) -> torch.Tensor:
    """The loss of the next batch of pictures and captions."""
    pixels, captions, truths = next(batches)
    image = model.encode_image(normalise(pixels.to(device), tower), normalize=True)
    text = model.encode_text(vocabulary([caption.text for caption in captions]).to(device), normalize=True)
    logits = model.logit_scale.exp() * image @ text.T + (0 if model.logit_bias is None else model.logit_bias)
    return tower.loss(logits, matches(captions, truths).to(device))


def loop(args, model, optimizer, progress, vocabulary, next_loss: Callable[[], torch.Tensor], words: Callable[[], str]) -> None:
    """Take steps until the time is used up. words: what a line of progress says besides."""
    started, last_saved, last_reported = time.monotonic() - progress.seconds, time.monotonic(), -math.inf
    while True:
        progress.seconds = time.monotonic() - started
        share = progress.step / args.steps if args.steps else progress.seconds / (60 * args.minutes)
        if share >= 1:
            return
        set_drop(model.visual, DROP if share < DROP_UNTIL else 0.0)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(share, args.rate) * group["pace"]
        loss = next_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        progress.step += 1
        progress.images += args.batch
        progress.loss = loss.item() if progress.loss is None else 0.98 * progress.loss + 0.02 * loss.item()
        if time.monotonic() - last_reported > args.report_every:
            speed = progress.images / max(progress.seconds, 1e-9)
            scale = model.logit_scale.exp().item()
            print(f"step {progress.step} share {share:.3f} loss {progress.loss:.3f} scale {scale:.1f} images/s {speed:.1f} {words()}",
                  flush=True)  # fmt: skip
            last_reported = time.monotonic()
        if time.monotonic() - last_saved > args.save_every:
            save(args.out / "checkpoint.pt", model, optimizer, progress, vocabulary)
            last_saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--tower", choices=list(TOWERS), default="clip")
    parser.add_argument("--embedded-text", action="store_true", help="begin with the embedded model's text tower instead of a random one")
    parser.add_argument("--minutes", type=float, default=120, help="time budget, earlier runs of a resumed training counted in")
    parser.add_argument("--steps", type=int, help="train for this many steps instead of a time")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--partials", type=int, default=2, help="captions of one or two things, beside the full one")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile the image tower: half a minute once, then about 1.15x")
    parser.add_argument("--report-every", type=float, default=30, help="seconds between lines of progress")
    parser.add_argument("--save-every", type=float, default=120, help="seconds between checkpoints")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
