"""Targets of exported files: the header, the graph, both manifests, the golden, the tokenizer, and the check of a loaded graph."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from fastloc import embedded
from fuzzing.mutators import json_text, protobuf
from fuzzing.target import Target, written

_FILES = embedded.FOLDER


@cache
def _metadata() -> dict[str, dict[str, str]]:
    from fastloc.onnx_file import header

    return {name: header.read(_FILES / name).metadata for name in ("gem.onnx", "gem.text.onnx")}


def _small() -> list[bytes]:
    """A graph with a subgraph, attributes and a manifest, and the same with weights in another file."""
    import onnx
    from onnx import TensorProto, helper

    from fastloc.onnx_file.manifest import KEY

    value = helper.make_tensor_value_info
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "body", [], [value("b", 1, [1])])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.FLOAT16, [2], [1, 2])),
        helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body),
        helper.make_node("MultiHeadAttention", ["x"], ["z"], domain="com.microsoft", num_heads=2, mode="linear"),
    ]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [0.0] * 6)
    far = onnx.TensorProto(name="far", data_type=1, dims=[1], data_location=1)
    for key, text in (("location", "input"), ("offset", "0"), ("length", "4")):
        far.external_data.add(key=key, value=text)
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 3, None])], [value("y", 1, [1])], [weights], value_info=[value("z", 1, [2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)])
    helper.set_model_props(model, {KEY: _metadata()["gem.onnx"][KEY], "a": "b"})
    elsewhere = onnx.ModelProto()
    elsewhere.CopyFrom(model)
    elsewhere.graph.initializer.append(far)
    return [model.SerializeToString(), elsewhere.SerializeToString()]


def _graph(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file import graph

    found = graph.read(written(folder, "input", content))
    return sum(tensor.bytes for tensor in found.graph.every_tensor()), [node.kind for node in found.graph.every_node()]


def _header(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file import header

    found = header.read(written(folder, "input", content))
    return found.manifest()


def _manifests() -> list[bytes]:
    from fastloc.onnx_file.manifest import KEY

    return [_metadata()["gem.onnx"][KEY].encode()]


def _manifest(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file.manifest import Manifest
    from fastloc.runtime.shape_profiles import inputs_of

    found = Manifest.loads(content.decode("utf-8", "replace"), "the file")
    return found.dumps(), inputs_of(found)


def _text_manifests() -> list[bytes]:
    from fastloc.onnx_file.text_manifest import KEY

    return [_metadata()["gem.text.onnx"][KEY].encode()]


def _text_manifest(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file.text_manifest import TextManifest

    found = TextManifest.loads(content.decode("utf-8", "replace"))
    return found.dumps(), [found.sentences(name) for name in found.templates]


def _packed() -> list[bytes]:
    from fastloc.onnx_file.text_manifest import pack

    return [pack('{"model": {"type": "BPE"}}').encode(), pack("x" * 5000).encode()]


def _unpacked(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file.text_manifest import unpack

    return unpack(content.decode("latin-1"))


def _definitions() -> list[bytes]:
    return [json.dumps(_definition(kind)).encode() for kind in ("WordLevel", "BPE", "WordPiece", "Unigram")]


def _definition(kind: str) -> dict[str, Any]:
    words = ["<pad>", "<start>", "<end>", "<unk>", "cat", "dog", "c", "a", "t"]
    vocabulary: Any = {word: number for number, word in enumerate(words)}
    model: dict[str, Any] = {"type": kind, "vocab": vocabulary, "unk_token": "<unk>"}
    if kind == "BPE":
        model |= {"merges": [["c", "a"]], "dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False}
        model["vocab"] = {**vocabulary, "ca": len(words)}
    elif kind == "WordPiece":
        model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    elif kind == "Unigram":
        model = {"type": kind, "vocab": [[word, -1.0] for word in words], "unk_id": 3, "byte_fallback": False}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
        },
        "added_tokens": [{"id": number, "content": words[number], **added} for number in range(3)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<start>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<start>": {"id": "<start>", "ids": [1], "tokens": ["<start>"]}},
        },
        "decoder": None,
        "model": model,
    }  # fmt: skip


def _tokenized(content: bytes, folder: Path) -> object:
    from fastloc.onnx_file.text_manifest import TOKENIZER_BYTES
    from fastloc.text import definition
    from fastloc.text.tokenizer import Tokens

    text = content.decode("utf-8", "replace")
    definition.check(text, 8, "the file", TOKENIZER_BYTES)
    return Tokens(text)(["a cat", "", "dog 42 \x00é 一" * 40])


def _loaded_graph(content: bytes, folder: Path) -> object:
    """The inputs and outputs that a runtime says of a graph, as JSON beside the manifest's size and count."""
    from fastloc.onnx_file.manifest import KEY, Manifest
    from fastloc.runtime.graph_check import check_graph
    from fastloc.utils.schema import plain

    found = plain(content, "the graph")
    sides = {
        part: {
            # the runtime gives the dtype, and the file its names
            name: (
                each[0] if each[0] in ("float32", "uint8") else "int64",
                [side if isinstance(side, int | str) else None for side in each[1]],
            )
            for name, each in kinds.items()
            if isinstance(each, list) and len(each) == 2 and isinstance(each[1], list)
        }
        for part, kinds in found.items() if isinstance(kinds, dict)
    }  # fmt: skip
    manifest = Manifest.loads(_metadata()["gem.onnx"][KEY])
    return check_graph(Path("the graph"), manifest, sides.get("inputs", {}), sides.get("outputs", {}))


def _loaded_graphs() -> list[bytes]:
    from fastloc.onnx_file.manifest import KEY, Manifest
    from fastloc.runtime.shape_profiles import inputs_of

    manifest = Manifest.loads(_metadata()["gem.onnx"][KEY])
    inputs = {name: [dtype, list(shape)] for name, (dtype, shape) in inputs_of(manifest).items()}
    axes = {"labels": ("uint8", 3), "scores": ("float32", 2), "background": ("float32", 2)}
    outputs = {name: [kind, [None] * count] for name in manifest.outputs for kind, count in [axes.get(name, ("float32", 4))]}
    return [json.dumps({"inputs": inputs, "outputs": outputs}).encode()]


_NAME = "fastloc.onnx_file"
ROWS = (
    Target("onnx-header", _header, _small, protobuf, (f"{_NAME}.header", f"{_NAME}.protobuf"), imports=("onnx",)),
    Target("onnx-graph", _graph, _small, protobuf, (f"{_NAME}.graph", f"{_NAME}.protobuf"), imports=("onnx",)),
    Target("manifest", _manifest, _manifests, json_text, (f"{_NAME}.manifest", "fastloc.utils.schema", "fastloc.utils.versioned_json")),
    Target("text-manifest", _text_manifest, _text_manifests, json_text, (f"{_NAME}.text_manifest",)),
    Target("packed-tokenizer", _unpacked, _packed, covers=(f"{_NAME}.text_manifest",), memory=192),
    Target("tokenizer", _tokenized, _definitions, json_text, ("fastloc.text.definition", "fastloc.text.tokenizer")),
    Target("graph-check", _loaded_graph, _loaded_graphs, json_text, ("fastloc.runtime.graph_check",)),
)
