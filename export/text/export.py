"""A model's text tower as one ONNX file that needs neither torch nor open_clip: weights, tokenizer and templates in it.

Input `tokens`, int64 [n, context], any n; output `embeddings`, float32 [n, E], unit length. Attention is written in plain operators: on
onnxruntime's CPU the fused operator is no faster at a text's few tokens. The speed comes from the step that
`fastloc.checkpoints.text_encoder.encode_tokens` takes too: a tower that does not read the columns after the longest text runs without them.
"""

import copy
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx_ir.passes import common
from torch import Tensor, nn

from fastloc._version import __version__
from fastloc.checkpoints.loading import Source
from fastloc.checkpoints.text.cut import Cut
from fastloc.checkpoints.text_encoder import encode_tokens
from fastloc.errors import FastlocError, ModelError, unknown
from fastloc.export.exporter import exported
from fastloc.export.initializers import as_float16, prepend
from fastloc.export.onnx_file import check, check_target, written
from fastloc.export.text.tokenizer import tokenization
from fastloc.onnx_file.text_manifest import KEY, TOKENIZER, TextManifest, pack
from fastloc.runtime.providers import runtime
from fastloc.text.templates import TEMPLATES, sentences

__all__ = ["DTYPES", "OPSETS", "export_text"]

OPSET = 18
OPSETS = range(18, 24)
# the largest allowed difference of an embedding's numbers from PyTorch's in float32
DTYPES = {"float32": 1e-5, "float16": 5e-3}
# a token table with fewer rows than this share is kept as those rows
SPARSE = 0.1
# the sentences that check the finished file: short, long, empty and with every other kind of token
_TRIED = ("a photo of a cat.", "", "one two three four five six seven eight nine ten " * 12, "Ünïcödé 123 日本 🎉!")


def export_text(
    source: Source, path: str | os.PathLike[str], *, opset: int | None = None, dtype: str = "float32", licence: str = ""
) -> TextManifest:
    """Write a model's text tower to an ONNX file.

    Args:
        path: the file; weights of more than 2 GB go into a second one beside it.
        opset: of ai.onnx, 18 to 23.
        dtype: of the stored weights, "float32" or "float16"; the computation is in float32.
        licence: of the model's weights, in your words, for the metadata.

    Returns: the manifest of the file.

    Raises:
        ModelError: a tower or tokenizer that cannot be written, or a file that does not reproduce PyTorch's results.
        FastlocError: an unknown dtype or opset, a path that cannot be written, or onnxruntime is not installed.
    """
    _check_options(opset, dtype)
    check_target(Path(path))
    # the checker of the file: a missing onnxruntime raises before the work, not after it
    runtime()
    tower: Any = source.text.tower
    split = tokenization(source)
    tokens = source.text.tokenizer(list(_TRIED))
    model = _traced(tower, tokens, opset or OPSET)
    if dtype == "float16":
        as_float16(model)
    with torch.inference_mode():
        right = F.normalize(encode_tokens(tower, tokens.to(_device(tower))).float(), dim=-1).cpu().numpy()
    manifest = TextManifest(
        version=__version__, model=source.name, digest=source.text.digest, context=tokens.shape[1], embed=right.shape[1], clean=split.clean,
        zeroed=split.zeroed, words=tuple(sorted(source.text.words)), names=source.text.names,
        templates={name: sentences(name) for name in TEMPLATES}, dtype=dtype, opset=opset or OPSET, licence=licence,
    )  # fmt: skip
    onnx.helper.set_model_props(model, {KEY: manifest.dumps(), TOKENIZER: pack(split.json)})
    with written(model, Path(path)) as file:
        check(file)
        _compare(file, tokens.numpy(), right, DTYPES[dtype])
    return manifest


def _check_options(opset: int | None, dtype: str) -> None:
    if dtype not in DTYPES:
        raise FastlocError(unknown("text tower dtype", dtype, DTYPES))
    if opset is not None and opset not in OPSETS:
        raise FastlocError(f"opset must be from {OPSETS.start} to {OPSETS.stop - 1} for a text tower, got {opset}")


@dataclass(frozen=True)
class _Sparse:
    """The rows of a token table that are not all zero: ids int64 [K], ascending, and rows [K, C]."""

    ids: Tensor
    rows: Tensor


class _Known(nn.Module):
    """A token table with few rows, as a product with one-hot rows: unknown tokens get zeros, without a table of the whole vocabulary."""

    ids: Tensor
    rows: Tensor

    def __init__(self, sparse: _Sparse) -> None:
        super().__init__()
        self.register_buffer("ids", sparse.ids)
        self.register_buffer("rows", sparse.rows)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed token ids: [n, N] -> [n, N, C]."""
        is_row = torch.eq(tokens[..., None], self.ids)
        return is_row.to(self.rows.dtype) @ self.rows


class _Unit(nn.Module):
    """A tower that normalises its embeddings to unit length."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        table = getattr(tower, "token_embedding", None)
        few = sparse(table.weight) if table is not None and getattr(tower, "cut", None) is not None else None
        if few is not None:
            tower.token_embedding = _Known(few)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.tower.encode_text(tokens), dim=-1)


def sparse(table: Tensor) -> _Sparse | None:
    """The non-zero rows of a token table [V, C], or None if they are not few."""
    ids = table.abs().amax(1).nonzero()[:, 0]
    return _Sparse(ids, table[ids].clone()) if len(ids) < SPARSE * len(table) else None


def _traced(tower: Any, tokens: Tensor, opset: int) -> Any:
    """The tower as an ONNX model: `tokens` int64 ["n", context] -> `embeddings` ["n", E]."""
    # its table of tokens may be replaced
    tower = copy.copy(tower) if _device(tower).type == "cpu" else copy.deepcopy(tower).cpu()
    tower._modules = dict(tower._modules)
    cut: Cut | None = getattr(tower, "cut", None)
    context = tokens.shape[1]
    many = torch.export.Dim("n", min=1)
    with warnings.catch_warnings(), torch.inference_mode():
        # the exporter warns about its own calls inside PyTorch
        warnings.simplefilter("ignore")
        program = exported(
            _Unit(tower), (tokens[:2] if cut is None else tokens[:2, : context // 2],),
            dynamic_shapes={"tokens": {0: many} if cut is None else {0: many, 1: torch.export.Dim("length", max=context)}},
            input_names=["tokens"], output_names=["embeddings"], opset_version=opset,
        )  # fmt: skip
    # each node's origin in PyTorch, which is a fifth of a small file
    common.ClearMetadataAndDocStringPass()(program.model)
    model = program.model_proto
    model.producer_name = "fastloc"
    if cut is not None:
        _cut_columns(model.graph, cut)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    dimensions[1].dim_value = context
    if dimensions[0].dim_param != "n":
        raise ModelError(f"number of sentences must stay open, got {dimensions[0].dim_value} from the exporter of this tower")
    return model


def _cut_columns(graph: Any, cut: Cut) -> None:
    """Let a graph for tokens of any length run on the columns that `Cut.columns` counts."""
    for node in graph.node:
        node.input[:] = ["tokens_cut" if name == "tokens" else name for name in node.input]
    for name, value in (("cut_zero", 0), ("cut_one", 1), ("cut_token", cut.token), ("cut_more", 1 + cut.more)):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    make = onnx.helper.make_node
    ends = {
        "highest": [],
        "first": [make("Equal", ["tokens", "cut_token"], ["cut_is"]), make("Cast", ["cut_is"], ["cut_read"], to=onnx.TensorProto.INT64)],
        "filled": [
            make("Equal", ["tokens", "cut_token"], ["cut_is"]),
            make("Not", ["cut_is"], ["cut_not"]),
            make("Cast", ["cut_not"], ["cut_read"], to=onnx.TensorProto.INT64),
        ],
    }[cut.kind]
    before = [
        *ends,
        make("ArgMax", ["cut_read" if ends else "tokens"], ["cut_ends"], axis=1, keepdims=0, select_last_index=int(cut.kind == "filled")),
        make("ReduceMax", ["cut_ends", "cut_zero"], ["cut_last"], keepdims=1),
        make("Add", ["cut_last", "cut_more"], ["cut_length"]),
        # an end after the last column is the last column
        make("Slice", ["tokens", "cut_zero", "cut_length", "cut_one"], ["tokens_cut"]),
    ]
    prepend(graph, before)


def _compare(file: Path, tokens: Any, right: Any, most: float) -> None:
    """Raise ModelError unless the file gives the expected embeddings."""
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"tokens": tokens})[0]
    error = float(np.abs(found - right).max())
    # not (error <= most), so that NaN is found too
    if not error <= most:
        raise ModelError(f"the exported text tower must be within {most:.0e} of PyTorch, got {error:.1e}")


def _device(tower: nn.Module) -> torch.device:
    return next(tower.parameters()).device
