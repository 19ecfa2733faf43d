"""TorchScript archives: their tensors alone are read, OpenAI's say which model they are, and nothing that a file holds is run."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fastloc.checkpoints import loading, state_dicts
from fastloc.checkpoints.foreign import torchscript
from fastloc.checkpoints.resnet_weights import ResNetWeights
from fastloc.checkpoints.sources import description
from fastloc.checkpoints.vit_weights import Weights, named_tensors
from fastloc.errors import ModelError
from mutations import byte_edits, raw
from openai_archives import CONFIGS, SIZES, Part, halved, sizes_of, state_of, write

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")


@pytest.fixture(autouse=True)
def _no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's compiler has nothing to do here."""
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("code was compiled"))


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_tensors_are_those_of_the_module(traced: bool, dtype: torch.dtype, tmp_path: Path):
    drawn = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    state = {"a": (drawn * 10).to(dtype), "deep.0.b": drawn[0].to(dtype), "deep.0.scalar": torch.tensor(3), "none": torch.zeros(0, 5)}
    found = torchscript.tensors(write(tmp_path / "x.pt", state, traced=traced))
    assert set(found) == set(state)
    for key, tensor in state.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor)


def test_views_and_tensors_that_are_there_twice(tmp_path: Path):
    base = torch.arange(24.0).reshape(4, 6)
    inner = Part()
    for key, tensor in (("whole", base), ("transposed", base.T), ("part", base[1:3, 2:5]), ("again", base)):
        inner.register_buffer(key, tensor)
    module = torch.jit.script(inner)
    torch.jit.save(module, str(tmp_path / "x.pt"))
    found = torchscript.tensors(tmp_path / "x.pt")
    assert torch.equal(found["transposed"], base.T) and torch.equal(found["part"], base[1:3, 2:5]) and torch.equal(found["again"], base)


def tensors_of(weights: Weights | ResNetWeights) -> list[torch.Tensor]:
    return list(named_tensors(weights).values()) if isinstance(weights, Weights) else [weights.stem[0].w, weights.pool.q_w]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_an_archive_of_openai_s_says_which_model_it_is(name: str, tmp_path: Path):
    state = halved(state_of(name))
    path = write(tmp_path / "ViT-tiny.pt", state, sizes_of(name))
    source = loading.load(str(path))
    (tmp_path / "model.json").write_text(json.dumps({**CONFIGS[name], "quick_gelu": True}))
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "plain.safetensors")
    expected = loading.load(str(tmp_path / "model.json"), str(tmp_path / "plain.safetensors"))
    assert source.name == "ViT-tiny" and source.spec == expected.spec and source.logit_scale == expected.logit_scale
    assert source.text.digest == expected.text.digest and source.text.tokenizer.context_length == 9
    tokens = torch.tensor([[1, 5, 59, 0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        assert torch.equal(source.text.tower.encode_text(tokens), expected.text.tower.encode_text(tokens))
    # the same tensors checked against a named architecture: QuickGELU by itself
    (tmp_path / "named.json").write_text(json.dumps(CONFIGS[name]))
    named = loading.load(str(tmp_path / "named.json"), str(path))
    assert named.spec == expected.spec and named.text.digest == expected.text.digest


def test_an_archive_against_another_architecture(tmp_path: Path):
    path = write(tmp_path / "x.pt", halved(state_of("vit")), sizes_of("vit"))
    other = json.loads(json.dumps(CONFIGS["vit"]))
    other["vision_cfg"]["layers"] = 3
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match=r"weights of another architecture: 'visual.transformer.resblocks.2.ln_1.weight' is missing"):
        loading.load(str(tmp_path / "other.json"), str(path))


def error_line(path: Path, pretrained: str | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        loading.load(str(path), pretrained)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_refusals(tmp_path: Path):
    state, path = halved(state_of("vit")), tmp_path / "x.pt"
    assert error_line(path) == f"weights file {str(path)!r} does not exist"
    assert error_line(write(path, state)).startswith(f"model must be named with {str(path)!r}, which does not say what it is, as OpenAI's")
    torch.save(state, path)
    assert "give the architecture's name as model, and this file as pretrained" in error_line(path)
    write(path, state, (32, 9, 61))
    assert error_line(path) == f"{str(path)!r} is damaged (vocab_size must be 60, as its tensors are, got 61)"
    write(path, {key: tensor for key, tensor in state.items() if key != "ln_final.weight"}, sizes_of("vit"))
    assert error_line(path) == f"{str(path)!r} holds no CLIP of OpenAI's: 'ln_final.weight' is missing or has too few axes"
    assert error_line(path, "openai").startswith("pretrained must be None with 'x.pt', which holds its weights, got 'openai'")
    assert "must have sha256 0000" in error_line(path, "sha256:" + 64 * "0")


class _Runs:
    """A pickle of it would run a command."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('it was run')",)


def rewritten(path: Path, edits: dict[str, bytes | None], compressed: bool = False) -> Path:
    """The archive with other contents of some parts; the names are without the archive's folder."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    start = next(iter(parts)).partition("/")[0]
    for name, content in edits.items():
        parts.pop(f"{start}/{name}", None)
        if content is not None:
            parts[f"{start}/{name}"] = content
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def storage(size: bytes, first: bytes = b"K\x00", key: str = "0", kind: str = "torch HalfStorage") -> bytes:
    """A data.pkl of a module with one tensor."""
    head = b"\x80\x02c__torch__\nA\n)\x81}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(("
    name = f"X\x07\x00\x00\x00storagec{kind.replace(' ', chr(10))}\nX{chr(len(key))}\x00\x00\x00{key}X\x03\x00\x00\x00cpuK\x0ctQ".encode()
    return head + name + first + size + b"\x89ccollections\nOrderedDict\n)RtRsb."


HOSTILE: dict[str, tuple[dict[str, bytes | None], bool, str]] = {
    "code": ({"data.pkl": pickle.dumps(_Runs(), 2)}, False, "_Damaged"),
    "newer pickle": ({"data.pkl": pickle.dumps({"a": 1}, 4)}, False, "_Damaged"),
    "no module": ({"data.pkl": pickle.dumps([1, 2], 2)}, False, "_Damaged"),
    "nothing": ({"data.pkl": b""}, False, "ValueError"),
    "larger than its numbers": ({"data.pkl": storage(b"(K\x63K\x63t(K\x63K\x01t")}, False, "_Damaged"),
    "before its numbers": ({"data.pkl": storage(b"(K\x01t(K\x01t", b"J\xff\xff\xff\xff")}, False, "_Damaged"),
    "steps back": ({"data.pkl": storage(b"(K\x02t(J\xff\xff\xff\xfft")}, False, "_Damaged"),
    "no such numbers": ({"data.pkl": storage(b"(K\x01t(K\x01t", key="9")}, False, "KeyError"),
    "another folder's": ({"data.pkl": storage(b"(K\x01t(K\x01t", key="../version")}, False, "KeyError"),
    "unknown numbers": ({"data.pkl": storage(b"(K\x01t(K\x01t", kind="torch QInt8Storage")}, False, "_Damaged"),
    "big-endian": ({"byteorder": b"big"}, False, "_Damaged"),
    "compressed": ({}, True, "_Damaged"),
    "without numbers": ({"data/0": None}, False, "KeyError"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(case: str, tmp_path: Path):
    edits, compressed, kind = HOSTILE[case]
    path = write(tmp_path / "x.pt", {"w": torch.ones(3, 4).half()})
    assert torchscript.tensors(path)["w"].shape == (3, 4)
    found = error_line(rewritten(path, edits, compressed))
    assert found == f"{str(path)!r} is not a .safetensors or torch file, or is damaged ({kind})"


def test_a_view_that_repeats_a_few_numbers(tmp_path: Path):
    path = write(tmp_path / "x.pt", {"w": torch.ones(3, 4).half()})
    # 2^40 times the first one
    rewritten(path, {"data.pkl": storage(b"(\x8a\x06\x00\x00\x00\x00\x00\x01t(K\x00t")})
    assert "views that repeat a few numbers" in error_line(path)


def test_modules_in_each_other_without_end(tmp_path: Path):
    path = write(tmp_path / "x.pt", {"w": torch.ones(3, 4).half()})
    # a module that is its own part, and fifty that hold the next one twice
    loop = b"\x80\x02c__torch__\nA\n)\x81q\x00}X\x01\x00\x00\x00ah\x00sb."
    assert "is damaged (_Damaged)" in error_line(rewritten(path, {"data.pkl": loop}))
    nested = io.BytesIO(b"")
    nested.write(b"\x80\x02")
    nested.write(b"c__torch__\nA\n)\x81q\x00")
    for index in range(50):
        nested.write(b"c__torch__\nA\n)\x81}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cubq%c" % (index, index, index + 1))
    nested.write(b".")
    assert "is damaged (_Damaged)" in error_line(rewritten(path, {"data.pkl": nested.getvalue()}))


def test_no_edit_of_an_archive_ends_in_a_traceback(tmp_path: Path):
    path = write(tmp_path / "x.pt", {"w": torch.ones(3, 4).half(), "deep.a": torch.ones(2)}, (1, 2, 3))
    original = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))

    def whole(made: bytes) -> object:
        path.write_bytes(made)
        return state_dicts.read(path)

    def inner(made: bytes) -> object:
        path.write_bytes(original)
        return state_dicts.read(rewritten(path, {"data.pkl": made}))

    assert raw(byte_edits(original, 1, 150), whole) == [] and raw(byte_edits(pickled, 2, 300), inner) == []


def test_the_sizes_are_no_part_of_a_model(tmp_path: Path):
    path = write(tmp_path / "x.pt", halved(state_of("vit")), sizes_of("vit"))
    assert set(SIZES) <= torchscript.names(path)
    assert description._archive(path, None).state is not None and not set(SIZES) & set(description._archive(path, None).state or {})
