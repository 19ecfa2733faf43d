"""Text towers of other families than CLIP, exported with their tokenizers: torch-free ids and embeddings are those of the engine."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
from fastloc.checkpoints.text.transformers_towers import TransformersTower, row
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import text_tower
from fastloc.checkpoints.text_tower import TextTower
from fastloc.errors import ModelError
from fastloc.export.text.export import DTYPES, export_text
from fastloc.export.text.tokenizer import tokenization
from fastloc.runtime.text_encoder import OnnxTextEncoder
from fastloc.text.tokenizer import Tokens
from tokenizer_families import TEXTS, make

CONTEXT, EMBED, WORDS = 20, 24, 700
SMALL = {"context_length": CONTEXT, "vocab_size": WORDS, "width": 24, "heads": 2, "layers": 1}
SIGLIP = {**SMALL, "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}
# family -> how texts are cleaned, and the text_cfg
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "siglip2": ({"clean": "canonicalize"}, {**SIGLIP, "act_kwargs": {"approximate": "tanh"}}),
    "siglip": ({"clean": "canonicalize"}, SIGLIP),
    "xlm-v": ({}, {**SMALL, "pool_type": "eos", "eos_id": 2}),
    "bert": ({"strip_sep_token": True}, {**SMALL, "no_causal_mask": True, "pool_type": "last"}),
    "tips": ({"clean": "lower"}, {
        **SMALL, "no_causal_mask": True, "use_pad_mask": True, "pool_type": "mean", "proj_type": "none", "activation": "relu",
        "positions": "sinusoidal", "scale_embedding": True}),
    "roberta": ({}, {"hf_model_name": "roberta-base", "context_length": CONTEXT}),
    "mt5": ({}, {"hf_model_name": "google/mt5-base", "context_length": CONTEXT}),
    "nllb": ({}, {
        "hf_model_name": "facebook/nllb-200-distilled-600M", "hf_pooler_type": "cls_pooler", "hf_proj_type": "linear",
        "context_length": CONTEXT}),
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@cache
def source(kind: str, root: Path) -> Any:
    """The text side of a small model of a family."""
    arguments, text = FAMILIES[kind]
    config = {"embed_dim": EMBED, "vision_cfg": {}, "custom_text": True, "text_cfg": text}
    if "hf_model_name" in text:
        sizes = replace(row(text), vocabulary=WORDS, width=64, layers=1, inner=48, positions=40)
        made: Any = TransformersTower(sizes, text, EMBED)
    else:
        made = TextTower(config)
    numbers = torch.Generator().manual_seed(0)
    state = {f"text.{name}": torch.randn(tensor.shape, generator=numbers) * 0.4 for name, tensor in made.state_dict().items()}
    tokenizer = FolderTokenizer(make(kind, root / kind), CONTEXT, **arguments)
    return SimpleNamespace(name=kind, text=TextEncoder(text_tower(config, state), tokenizer))


@pytest.mark.parametrize("kind", FAMILIES)
def test_ids_of_the_definition_are_the_tokenizer_s(kind: str, root: Path):
    tokenizer = source(kind, root).text.tokenizer
    made = tokenization(source(kind, root))
    found, lengths = Tokens(made.json, made.clean, made.zeroed)(list(TEXTS))
    np.testing.assert_array_equal(found, tokenizer(list(TEXTS)).numpy())
    assert lengths == [tokenizer.length(text) for text in TEXTS] and max(lengths) > CONTEXT


@pytest.mark.slow("an export of a tower of every family in each precision", quick=1)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.filterwarnings("ignore:.*tokens in its template")
def test_a_file_gives_the_engine_s_embeddings(kind: str, dtype: str, root: Path, tmp_path: Path):
    expected, path = source(kind, root), tmp_path / "tower.text.onnx"
    manifest = export_text(expected, path, dtype=dtype)
    made = OnnxTextEncoder(path)
    assert made.manifest == manifest and made.digest == expected.text.digest
    texts = [text for text in TEXTS if text.strip()]
    # one alone, and all at once: other columns are left out
    for some in (texts[:1], texts):
        found = made(some, "a photo of a {}.")
        error = np.abs(found - expected.text(some, "a photo of a {}.").numpy()).max()
        assert error <= (1e-5 if dtype == "float32" else 5e-3), f"off by {error:.1e}"
    assert np.abs(found[0] - found[1]).max() > 1e-2


@pytest.mark.slow("an export")
def test_a_text_without_a_token(root: Path, tmp_path: Path):
    """TIPS frames no text, so the empty one has none, and a mean of none has no direction."""
    path = tmp_path / "tower.text.onnx"
    export_text(source("tips", root), path)
    with pytest.raises(ModelError, match="its embeddings must be of unit length, got 0; a text has no token that") as caught:
        OnnxTextEncoder(path).empty("plain")
    assert "\n" not in str(caught.value)
