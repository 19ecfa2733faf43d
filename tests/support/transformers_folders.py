"""Folders as transformers writes them, of the models that tests/goldens/transformers_*.npz have the answers of."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fastloc.bench.peers.seeded import seeded_pixels, seeded_state
from repo import REPO

NAMES = (
    "clip", "clip_laion", "metaclip_2", "siglip", "siglip_projection", "siglip2", "tipsv2", "tipsv2_gated", "tipsv2_modules",
)  # fmt: skip
BATCH, SIDE = 2, 32
# of the generator's script
_TEMPERATURE = 0.02


@dataclass(frozen=True)
class Golden:
    """One model: its configuration, its tensors, inputs, and transformers' own answers."""

    config: dict[str, Any]
    state: dict[str, Tensor]
    pixels: Tensor
    tokens: Tensor
    image: Tensor
    text: Tensor
    # of pixels twice as high and wide, of Siglip2Model alone
    larger: Tensor | None
    larger_pixels: Tensor
    # of Siglip2Model alone: (pixels [1, 3, h, w], embedding [E]) of pictures of other shapes, which were in one padded batch
    shaped: tuple[tuple[Tensor, Tensor], ...] = ()


@cache
def golden(name: str) -> Golden:
    with np.load(REPO / "tests" / "goldens" / f"transformers_{name}.npz") as stored:
        meta = json.loads(str(stored["meta"]))
        tokens, image, text = (torch.from_numpy(stored[each]) for each in ("tokens", "image", "text"))
        larger = torch.from_numpy(stored["larger"]) if "larger" in stored else None
        grids, embeddings = (stored.get(each, ()) for each in ("grids", "shaped"))
    state = {key: torch.from_numpy(array) for key, array in seeded_state(meta["shapes"], meta["seed"]).items()}
    if "temperature" in state:
        state["temperature"] = torch.tensor(_TEMPERATURE)
    pixels = [torch.from_numpy(seeded_pixels((BATCH, 3, side, side), meta["seed"])) for side in (SIDE, 2 * SIDE)]
    patch = meta["config"]["vision_config"]["patch_size"]
    shapes = [(1, 3, int(h) * patch, int(w) * patch) for h, w in grids]
    shaped = [
        (torch.from_numpy(seeded_pixels(shape, meta["seed"])), torch.from_numpy(each))
        for shape, each in zip(shapes, embeddings, strict=True)
    ]
    return Golden(meta["config"], state, pixels[0], tokens, image, text, larger, pixels[1], tuple(shaped))


def tokenizer_json(words: int) -> str:
    """A tokenizer of so many words: padding, start, an end, then w3, w4, … and the last one, an end as well."""
    special = {"<pad>": 0, "<start>": 1, "<end>": 2, "<last>": words - 1}
    vocabulary = {**{f"w{number}": number for number in range(words)}, **special}
    kept = {word: number for word, number in vocabulary.items() if word in special or number not in special.values()}
    added = [
        {"id": number, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for word, number in special.items()
    ]
    pieces = [{"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    post = {
        "type": "TemplateProcessing", "single": [*pieces, {"SpecialToken": {"id": "<last>", "type_id": 0}}], "pair": pieces,
        "special_tokens": {word: {"id": word, "ids": [special[word]], "tokens": [word]} for word in ("<start>", "<last>")},
    }  # fmt: skip
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": post, "decoder": None,
        "model": {"type": "WordLevel", "vocab": kept, "unk_token": "<pad>"},
    })  # fmt: skip


def write(folder: Path, name: str, *, shards: int = 1, pickled: bool = False, **changes: Any) -> Path:
    """Write a golden's model into a folder.

    Args:
        shards: files of its weights. pickled: they are torch's, not safetensors.
        changes: fields of config.json; None takes one away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = golden(name)
    config = {key: value for key, value in {**found.config, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer_json(found.config["text_config"]["vocab_size"]))
    stem, end = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names = [f"{stem}.{end}"] if shards == 1 else [f"{stem}-{number + 1:05}-of-{shards:05}.{end}" for number in range(shards)]
    table = {}
    for number, file in enumerate(names):
        part = {key: tensor.contiguous() for key, tensor in list(found.state.items())[number::shards]}
        torch.save(part, folder / file) if pickled else save_file(part, folder / file)
        table |= dict.fromkeys(part, file)
    if shards > 1:
        (folder / f"{stem}.{end}.index.json").write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": table}))
    return folder


def preprocessor(folder: Path, name: str = "preprocessor_config.json", **fields: Any) -> None:
    """Write what a processor does."""
    (folder / name).write_text(json.dumps(fields))
