"""The text tower as a file: what open_clip computes, mask and all, and every way in which a file or an environment can be wrong."""

import argparse
import copy
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import open_clip
import pytest
import torch

from fastloc import embedded
from fastloc.checkpoints import loading
from fastloc.checkpoints.text.transformers_towers import TransformersTower, row
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import text_tower
from fastloc.checkpoints.text_tower import TextTower
from fastloc.cli import text as cli_text
from fastloc.errors import FastlocError, FastlocWarning, ModelError, PlanError, TextError
from fastloc.export import onnx_file
from fastloc.export.initializers import as_float16
from fastloc.export.text import export
from fastloc.export.text.export import export_text
from fastloc.onnx_file.text_manifest import KEY, TOKENIZER, TextManifest
from fastloc.runtime import text_encoder
from fastloc.runtime.text_encoder import OnnxTextEncoder
from fastloc.text.embeddings import TextEmbeddings
from fastloc.text.templates import TEMPLATES
from fastloc.utils.hashing import tower_digest

CONTEXT, EMBED, END = 12, 24, 49407
# every way that open_clip builds a text tower which `fastloc.checkpoints.loading` takes -> (its custom class, the configuration)
TOWERS: dict[str, tuple[bool, dict[str, Any]]] = {
    "plain": (False, {}),
    "custom class, quick GELU, layer scale": (True, {"quick_gelu": True, "ls_init_value": 0.5}),
    "no mask, last token (CLIPA)": (False, {"no_causal_mask": True, "pool_type": "last"}),
    "first end token (worldwide)": (False, {"pool_type": "eos", "eos_id": END}),
    "first token, own blocks": (False, {"no_causal_mask": True, "pool_type": "first", "qk_norm": True, "scale_heads": True}),
    "class token, linear projection": (True, {"embed_cls": True, "proj_bias": True}),
    "no mask, last token, bias, tanh (SigLIP 2)": (True, {
        "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "act_kwargs": {"approximate": "tanh"},
        "norm_kwargs": {"eps": 1e-6}}),
    "no mask, end token (MobileCLIP2)": (True, {"no_causal_mask": True}),
}  # fmt: skip
# towers that open_clip does not have, or has around those of transformers: text_cfg
OTHERS: dict[str, dict[str, Any]] = {
    "TIPSv2": {
        "context_length": CONTEXT, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1, "no_causal_mask": True, "use_pad_mask": True,
        "pool_type": "mean", "proj_type": "none", "activation": "relu", "positions": "sinusoidal", "scale_embedding": True},
    "roberta": {"hf_model_name": "roberta-base", "context_length": CONTEXT},
    "mt5": {"hf_model_name": "google/mt5-base", "context_length": CONTEXT},
    "nllb": {"hf_model_name": "facebook/nllb-200-distilled-600M", "hf_pooler_type": "cls_pooler", "context_length": CONTEXT},
}  # fmt: skip
TEXTS = ("a photo of a cat.", "red car", "", "one two three four five six seven eight nine ten eleven twelve")


def network(kind: str = "plain", **more: Any) -> Any:
    custom, settings = TOWERS[kind]
    text = {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, **settings, **more}
    quick = text.pop("quick_gelu", False)
    vision = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 16}
    torch.manual_seed(0)
    made: Any = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(EMBED, vision, text, quick_gelu=quick).eval()
    made.settings = {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick, "custom_text": custom}
    for name, tensor in made.named_parameters():
        # fresh weights are so small that a sentence hardly differs from another
        tensor.data *= 20 if name.endswith(("token_embedding.weight", "positional_embedding")) else 2 if "attn" in name else 1
    return made.requires_grad_(False)


def source(tower: Any, **options: Any) -> Any:
    """The text side of a Source: a tower loaded from open_clip's weights."""
    tower = text_tower(tower.settings, tower.state_dict()) if hasattr(tower, "settings") else tower
    return SimpleNamespace(name="tiny", text=TextEncoder(tower, open_clip.SimpleTokenizer(context_length=CONTEXT), **options))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain tower with a small vocabulary, exported."""
    path = tmp_path_factory.mktemp("plain") / "tiny.text.onnx"
    export_text(source(network(), words=("red", "car", "a", "cat"), names=("red car", "cat")), path, licence="mine")
    return path


@pytest.fixture
def traced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace tracing by a copy of the written file: tracing takes seconds, and some tests are not about it."""
    model = onnx.load(file)
    del model.metadata_props[:]
    monkeypatch.setattr(export, "_traced", lambda *_: copy.deepcopy(model))


@cache
def session(path: Path) -> Any:
    return text_encoder._session(path, "cpu", 1)


def run(path: Path, tokens: Any) -> Any:
    return session(path).run(None, {"tokens": np.asarray(tokens)})[0]


@pytest.mark.slow("an export of every kind of text tower", quick=1)
@pytest.mark.parametrize("kind", [kind for kind in TOWERS if kind != "plain"])
def test_every_kind_of_tower(kind: str, tmp_path: Path):
    check_tower(network(kind), tmp_path / "tower.text.onnx")


@pytest.mark.slow("an export of every kind of text tower", quick=1)
@pytest.mark.parametrize("kind", OTHERS)
def test_towers_that_are_fastloc_s_own(kind: str, tmp_path: Path):
    config = {"embed_dim": EMBED, "vision_cfg": {}, "custom_text": True, "text_cfg": OTHERS[kind]}
    if kind == "TIPSv2":
        made: Any = TextTower(config)
    else:
        sizes = replace(row(OTHERS[kind]), vocabulary=49408, width=64, layers=1, inner=80, positions=40)
        made = TransformersTower(sizes, OTHERS[kind], EMBED)
    numbers = torch.Generator().manual_seed(0)
    state = {f"text.{name}": torch.randn(tensor.shape, generator=numbers) * 0.3 for name, tensor in made.state_dict().items()}
    check_tower(text_tower(config, state), tmp_path / "tower.text.onnx")


def test_the_plain_tower(file: Path):
    check_file(network(), file)


def check_tower(tower: Any, path: Path) -> None:
    assert export_text(source(tower), path).digest == source(tower).text.digest
    check_file(tower, path)


def check_file(tower: Any, path: Path) -> None:
    tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(list(TEXTS))
    expected = torch.nn.functional.normalize(tower.encode_text(tokens), dim=-1).numpy()
    inputs = session(path).get_inputs()[0]
    assert (inputs.name, inputs.shape, inputs.type) == ("tokens", ["n", CONTEXT], "tensor(int64)")
    for count in (1, 2, 4):
        found = run(path, tokens[:count])
        assert found.shape == (count, EMBED) and found.dtype == np.float32
        error = np.abs(found - expected[:count]).max()
        assert error <= 1e-5, f"{count} sentences: off by {error:.1e}"


@pytest.mark.slow("an export of two towers")
def test_the_causal_mask_is_kept(file: Path, tmp_path: Path):
    tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(["a cat", TEXTS[3]])
    behind, before = tokens.clone(), tokens.clone()
    end = int(tokens[0].argmax())
    # the second sentence fills the context, so these columns are computed for the first one too
    behind[0, end + 1 :] = torch.tensor([320, 1125, 539, 2368, 736, 320, 518, 1929][: CONTEXT - end - 1])
    before[0, end - 1] = 1929
    plain = run(file, tokens)
    assert np.abs(run(file, behind)[0] - plain[0]).max() <= 1e-6
    assert np.abs(run(file, before)[0] - plain[0]).max() > 1e-2
    # the same weights without a mask are another tower: both of these are seen there
    bare = tmp_path / "bare.text.onnx"
    unmasked = network(no_causal_mask=True)
    unmasked.load_state_dict(network().state_dict())
    check_tower(unmasked, bare)
    assert np.abs(run(bare, tokens)[0] - plain[0]).max() > 1e-2
    assert np.abs(run(bare, behind)[0] - run(bare, tokens)[0]).max() > 1e-2


def test_columns_behind_the_longest_text_are_not_computed(file: Path):
    """The Slice in front is what keeps short texts quick; every other node takes its length from it."""
    graph = onnx.load(file).graph
    assert [node.op_type for node in graph.node if "tokens" in node.input] == ["ArgMax", "Slice"]


@pytest.mark.parametrize("template", [*TEMPLATES, "a drawing of a {}"])
@pytest.mark.filterwarnings("ignore:.*tokens in its template")
def test_the_encoder_is_what_the_torch_one_is(file: Path, template: str):
    expected, made = source(network()).text, OnnxTextEncoder(file)
    texts = ["cat", " red ", "cat"]
    found = made(texts, template)
    assert found.dtype == np.float32 and found.shape == (3, EMBED)
    np.testing.assert_allclose(found, expected(texts, template).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(made.empty(template), expected.empty(template).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert made.digest == expected.digest


def test_each_text_is_encoded_once(file: Path, monkeypatch: pytest.MonkeyPatch):
    made = OnnxTextEncoder(file)
    first = made(["cat", "red car", "cat"], "gem")
    np.testing.assert_array_equal(first[0], first[2])
    # whatever runs now has no method `run`
    monkeypatch.setattr(made, "session", object())
    np.testing.assert_array_equal(made([" red car"], "gem")[0], first[1])
    with pytest.raises(ModelError, match="cannot run it"):
        made(["cat"], "plain")


@pytest.mark.parametrize(
    ("texts", "template", "message"),
    [
        ([], "gem", "no prompts"),
        (["cat", ""], "gem", "prompt 1 must not be empty"),
        (["cat", 3], "gem", "prompt 1 must be a string, got int: 3"),
        (["cat"], "gme", "unknown template 'gme': did you mean 'gem'"),
    ],
)
def test_prompts_that_cannot_be_used(file: Path, texts: list[Any], template: str, message: str):
    with pytest.raises(TextError, match=message):
        OnnxTextEncoder(file)(texts, template)


def test_what_is_warned_about(file: Path):
    made = OnnxTextEncoder(file)
    with pytest.warns(FastlocWarning, match=r"never saw the word 'cats' \(in 'red cats'\).*near it: cat"):
        made(["red cats"], "gem")
    with pytest.warns(FastlocWarning, match="'a a a a a a a a a a a cat' is 19 tokens in its template; the model reads the first 12"):
        made(["a " * 11 + "cat"], "gem")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(["Red car", "cat"], "gem")
        made.empty("gem")


@pytest.mark.usefixtures("traced")
def test_half_of_the_bytes(file: Path, tmp_path: Path):
    half = tmp_path / "half.text.onnx"
    manifest = export_text(source(network()), half, dtype="float16", opset=20)
    assert (manifest.dtype, manifest.opset, OnnxTextEncoder(half).manifest) == ("float16", 20, manifest)
    weights = {tensor.data_type for tensor in onnx.load(half).graph.initializer if np.prod(tensor.dims) >= 1024}
    assert weights == {onnx.TensorProto.FLOAT16}
    assert half.stat().st_size < file.stat().st_size - 1.5e6
    tokens = open_clip.SimpleTokenizer(context_length=CONTEXT)(list(TEXTS))
    error = np.abs(run(half, tokens) - run(file, tokens)).max()
    assert 0 < error < 5e-3


def test_a_weight_that_float16_cannot_hold(file: Path):
    model = onnx.load(file)
    table = next(tensor for tensor in model.graph.initializer if tensor.dims[0] == 49408)
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table) * np.float32(1e6), table.name))
    with pytest.raises(ModelError, match="is too large for float16; export with dtype float32"):
        as_float16(model)


@pytest.mark.usefixtures("traced")
def test_weights_beyond_one_file_go_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_file, "MOST", 1000)
    path = tmp_path / "big.text.onnx"
    export_text(source(network()), path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["big.text.onnx", "big.text.onnx.data"]
    np.testing.assert_allclose(OnnxTextEncoder(path)(["cat"], "gem"), source(network()).text(["cat"], "gem"), atol=1e-5)
    (tmp_path / "big.text.onnx.data").unlink()
    with pytest.raises(ModelError, match=r"big\.text\.onnx\.data"):
        OnnxTextEncoder(path)


def test_the_digest_is_of_the_weights_alone():
    one, custom = network(ls_init_value=0.5), network("custom class, quick GELU, layer scale")
    inner = {f"text.{name}": tensor for name, tensor in one.state_dict().items() if not name.startswith(("visual.", "logit_"))}
    custom.load_state_dict(inner, strict=False)
    assert source(one).text.digest == source(custom).text.digest
    custom.text.ln_final.bias.data[0] += 1e-3
    assert source(one).text.digest != source(custom).text.digest
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    digest = tower_digest({"a": numbers, "b": numbers[0]})
    assert digest == tower_digest({"b": numbers[0].astype(np.float16), "a": np.asfortranarray(numbers).astype(np.float64)})
    assert len({digest, tower_digest({"a": numbers.T.copy(), "b": numbers[0]}), tower_digest({"b": numbers, "a": numbers[0]})}) == 3


# what cannot be written, and that nothing is left then


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        ({"dtype": "int8"}, "t.onnx", "unknown text tower dtype 'int8'"),
        ({"opset": 9}, "t.onnx", "opset must be from 18 to 23 for a text tower, got 9"),
        ({}, "t.bin", "must end in .onnx, got '.bin'"),
        ({}, "nowhere/t.onnx", "must be in a folder that exists, got .*nowhere"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, options: dict[str, Any], name: str, message: str):
    with pytest.raises(FastlocError, match=message):
        export_text(source(network()), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("traced")
def test_a_file_that_is_wrong_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "DTYPES", {"float32": -1.0})
    with pytest.raises(ModelError, match=r"must be within -1e"):
        export_text(source(network()), tmp_path / "tower.text.onnx")
    assert not list(tmp_path.iterdir())


# what cannot be read


def altered(file: Path, path: Path, **metadata: str) -> Path:
    model = onnx.load(file)
    kept = {entry.key: entry.value for entry in model.metadata_props} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value})
    onnx.save(model, path)
    return path


def newer(file: Path) -> str:
    content = json.loads({entry.key: entry.value for entry in onnx.load(file).metadata_props}[KEY])
    return json.dumps({**content, "format": 2, "version": "9.0"})


def test_files_that_are_not_text_towers(file: Path, tmp_path: Path):
    cases: list[tuple[Path, str]] = [
        (tmp_path / "nowhere.onnx", "nowhere.onnx: no such file"),
        (tmp_path, "must be an ONNX file, got a folder"),
        (altered(file, tmp_path / "foreign.onnx", **{KEY: ""}), "is not a text tower that fastloc exported"),
        (altered(file, tmp_path / "mute.onnx", **{TOKENIZER: ""}), "is not a text tower that fastloc exported"),
        (altered(file, tmp_path / "broken.onnx", **{KEY: "{"}), "its 'fastloc_text' metadata is damaged"),
        (altered(file, tmp_path / "poor.onnx", **{KEY: '{"format": 1}'}), "its 'fastloc_text' metadata is damaged"),
        (altered(file, tmp_path / "newer.onnx", **{KEY: newer(file)}), "exported by fastloc 9.0 with 'fastloc_text' metadata of format 2"),
        (altered(file, tmp_path / "odd.onnx", **{TOKENIZER: "????"}), "its tokenizer is damaged"),
    ]
    for name, content in (("text.onnx", b"hello"), ("short.onnx", file.read_bytes()[:-1000]), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        cases.append((tmp_path / name, name))
    for path, message in cases:
        with pytest.raises(ModelError, match=message) as caught:
            OnnxTextEncoder(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(PlanError, match="unknown provider 'cpuu'"):
        OnnxTextEncoder(file, "cpuu")


def test_a_template_that_the_file_does_not_hold(file: Path):
    content = json.loads({entry.key: entry.value for entry in onnx.load(file).metadata_props}[KEY])
    del content["templates"]["openai80"]
    with pytest.raises(ModelError, match="unknown template of this file 'openai80'"):
        TextManifest.loads(json.dumps(content)).sentences("openai80")


def fresh(code: str) -> str:
    """Output of code where neither torch nor any other package of the engine's can be imported."""
    missing = ("torch", "open_clip", "onnx", "onnx_ir", "onnxscript", "safetensors", "ftfy", "regex", "scipy")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
    done = subprocess.run([sys.executable, "-P", "-c", blocked + code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_neither_torch_nor_open_clip_is_needed(file: Path):
    code = f"from fastloc.runtime.text_encoder import OnnxTextEncoder\nprint(OnnxTextEncoder({str(file)!r})(['cat'], 'surgery85').tolist())"
    found = np.array(json.loads(fresh(code)))
    np.testing.assert_allclose(found, source(network()).text(["cat"], "surgery85").numpy(), atol=1e-5)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_what_to_install_is_reported(file: Path, package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FastlocError, match=rf"{package} is not installed.*fastloc\[onnx-cpu\]"):
        OnnxTextEncoder(file)


# the commands


def command(name: str, *words: Any) -> int:
    parser = argparse.ArgumentParser()
    add, run = {"export-text": (cli_text.add_export, cli_text.run_export), "embed": (cli_text.add_embed, cli_text.run_embed)}[name]
    add(parser)
    return run(parser.parse_args([str(word) for word in words]))


def test_texts_become_a_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "more.txt").write_text("cat\n\n a red cat \n", encoding="utf-8")
    out = tmp_path / "words.npz"
    assert command("embed", "red car", "--texts-file", tmp_path / "more.txt", "--text", file, "--template", "plain", "-o", out) == 0
    assert f"written: {out} (3 texts of 24 numbers, text tower sha256:" in capsys.readouterr().out
    found = TextEmbeddings.load(out, OnnxTextEncoder(file).digest)
    assert (found.names, found.template) == (("red car", "cat", "a red cat"), "plain")
    np.testing.assert_allclose(found.vectors, source(network()).text(found.names, "plain").numpy(), atol=1e-5)


def test_both_ways_to_embed_agree(tmp_path: Path):
    for words in (("--text", embedded.GEM_TEXT_ONNX), ("--model", "embedded")):
        assert command("embed", "cat", "red car", *words, "-o", tmp_path / f"{words[0]}.npz") == 0
    first, second = (TextEmbeddings.load(tmp_path / f"{name}.npz", loading.load().text.digest) for name in ("--text", "--model"))
    np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-5)


@pytest.mark.usefixtures("traced")
def test_a_model_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "load", lambda *names: source(network(), names=tuple(map(str, names))))
    path = tmp_path / "tiny.text.onnx"
    assert command("export-text", "--model", "tiny", "--dtype", "float16", "--licence", "mine", "-o", path) == 0
    made = OnnxTextEncoder(path).manifest
    assert (made.names, made.dtype, made.licence) == (("tiny", "None"), "float16", "mine")
    assert f"written: {path} ({path.stat().st_size / 1e6:.1f} MB, text tower {made.digest})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.npz"], "no prompts"),
        (["cat", "-o", "x.txt"], "unknown file ending '.txt': known file endings: .npz, .safetensors"),
        (["cat", "--text", "a.onnx", "--model", "embedded", "-o", "x.npz"], "got both; leave one out"),
        (["cat", "--texts-file", "nowhere.txt", "-o", "x.npz"], "texts file 'nowhere.txt' cannot be read"),
    ],
)
def test_what_embed_refuses(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FastlocError, match=message):
        command("embed", *words)
    assert not list(tmp_path.iterdir())
