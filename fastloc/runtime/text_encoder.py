"""Encoder of texts to unit embeddings with an exported text tower: `fastloc.checkpoints.text_encoder` without torch and open_clip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc.errors import ModelError, PlanError
from fastloc.onnx_file import header, text_manifest
from fastloc.onnx_file.text_manifest import TOKENIZER, TextManifest, unpack
from fastloc.runtime.providers import SHARED, available, choose, register, runtime
from fastloc.text.prompts import HAS_WORD, checked, warn_of_length, warn_of_nothing, warn_of_unknown_words
from fastloc.text.tokenizer import Tokens
from fastloc.utils.fork_safety import keep_for_ever, renewed_after_fork
from fastloc.utils.lru_cache import RowCache
from fastloc.utils.schema import first_line
from fastloc.utils.system.exhaustion import pass_on

__all__ = ["OnnxTextEncoder"]

Floats = NDArray[np.float32]
# sentences that go through the text tower at once
CHUNK = 256


class OnnxTextEncoder:
    """The text side of an exported model. Embeddings are kept by (template, text), so a text costs its encoding once.

    Args:
        path: a file that `fastloc export-text` wrote.
        providers: where it runs, as `fastloc.runtime.providers.choose` takes it; texts are encoded once, so the CPU does.
        threads: of onnxruntime; by default its own choice.

    Raises:
        ModelError: no such file, a damaged one, or one that is not a text tower. PlanError: the provider is not there.
        FastlocError: onnxruntime or tokenizers is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], providers: str | Sequence[str] = "cpu", threads: int | None = None) -> None:
        self.path = Path(path)
        found = header.read(self.path)
        self.manifest = TextManifest.of(found.metadata, str(path), found.shipped)
        definition = unpack(found.metadata[TOKENIZER], str(path))
        if not found.shipped:
            from fastloc.text.definition import check

            check(definition, self.manifest.context, str(path), text_manifest.TOKENIZER_BYTES)
        self.tokens = Tokens(definition, self.manifest.clean, self.manifest.zeroed, str(path))
        self._load = partial(_session, self.path, providers, threads)
        self.session: Any = self._load()
        self._check_graph()
        self.words = frozenset(self.manifest.words)
        self.cache = RowCache[tuple[str, str], Floats](_blank, np.stack)
        renewed_after_fork(self)

    @property
    def digest(self) -> str:
        """The digest of this text tower, see `fastloc.utils.hashing.tower_digest`."""
        return self.manifest.digest

    def __call__(self, texts: str | Sequence[str], template: str) -> Floats:
        """Embed `texts` with a named or custom template: float32 [T, E], unit length, in the order given, repeats included.

        Raises:
            TextError: no texts, one that is empty or not a string, an unknown template.
        """
        prompts = checked(texts)
        keys = [(template, text) for text in prompts]
        for _, text in self.cache.missing(keys):
            warn_of_unknown_words(text, self.words, self.manifest.names)
        return self.cache.all(keys, self._embedded)

    def empty(self, template: str) -> Floats:
        """The embedding of the empty string in the same template, [E], unit length: CLIP Surgery's redundant feature."""
        empty: Floats = self.cache.all([(template, "")], self._embedded)[0]
        return empty

    def _embedded(self, key: tuple[str, str]) -> Floats:
        template, text = key
        tokens, lengths = self.tokens([frame.replace("{}", text) for frame in self.manifest.sentences(template)])
        warn_of_length(text, max(lengths), self.manifest.context, stacklevel=6)
        # letters and digits are tokens of any tokenizer
        if text and not self.words and not HAS_WORD.search(text) and np.array_equal(*self.tokens([text, ""])[0]):
            warn_of_nothing(text, stacklevel=6)
        mean: Floats = np.concatenate([self._encode(tokens[i : i + CHUNK]) for i in range(0, len(tokens), CHUNK)]).mean(0)
        unit: Floats = mean / np.maximum(np.linalg.norm(mean), np.float32(1e-12))
        return unit

    def _at_fork_reinit(self) -> None:
        # the session's threads are gone: not even its destructor ends
        keep_for_ever(self.session)
        self.session = None

    def _encode(self, tokens: NDArray[np.int64]) -> Floats:
        if self.session is None:
            self.session = self._load()
        try:
            rows: Floats = self.session.run(["embeddings"], {"tokens": tokens})[0]
        except Exception as error:
            pass_on(error)
            # onnxruntime's own exceptions have no base but this one
            raise ModelError(f"{self.path}: onnxruntime cannot run it ({first_line(error)})") from error
        if rows.shape != (len(tokens), self.manifest.embed) or rows.dtype != np.float32 or not np.isfinite(rows).all():
            shape = [len(tokens), self.manifest.embed]
            raise ModelError(f"{self.path}: its embeddings must be finite float32 {shape}, got {rows.dtype} {list(rows.shape)}")
        shortest = float(np.linalg.norm(rows, axis=1).min(initial=1))
        # what is nothing stays so when it is brought to unit length
        if shortest < 0.5:
            raise ModelError(
                f"{self.path}: its embeddings must be of unit length, got {shortest:.3g}; a text has no token that the tower reads, or the "
                "file is damaged"
            )
        return rows

    def _check_graph(self) -> None:
        """Raise ModelError unless the graph's inputs and outputs match the metadata."""
        found = [(each.name, each.type) for each in (*self.session.get_inputs(), *self.session.get_outputs())]
        if found != [("tokens", "tensor(int64)"), ("embeddings", "tensor(float)")]:
            raise ModelError(f"{self.path}: its graph must take 'tokens', int64, and give 'embeddings', float32, got {found}")


def _blank(rows: int, like: Floats) -> Floats:
    return np.empty((rows, *like.shape), like.dtype)


def _session(path: Path, providers: str | Sequence[str], threads: int | None) -> Any:
    ort = runtime()
    rows = choose(providers, available(ort), f"onnxruntime {ort.__version__}")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    for entry in SHARED.items():
        options.add_session_config_entry(*entry)
    plugin = register(rows[0], ort)
    try:
        if plugin:
            options.add_provider_for_devices(plugin[:1], {})
            session = ort.InferenceSession(str(path), options)
        else:
            session = ort.InferenceSession(str(path), options, providers=[row.ort for row in rows])
    except Exception as error:
        pass_on(error)
        # onnxruntime's own exceptions have no base but this one
        raise ModelError(f"{path}: onnxruntime cannot load it ({first_line(error)})") from error
    if rows[0].ort not in session.get_providers():
        raise PlanError(f"{path}: provider {rows[0].name!r} did not start, and onnxruntime would use {', '.join(session.get_providers())}")
    return session
