"""Arguments that reach the library behind a model's tokenizer: a few harmless arguments, and never leave to run the model's code.

A module of its name stands in for transformers, and behaves alike: it runs code beside a model where an argument allows it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from fastloc import embedded
from fastloc.checkpoints import hub, loading
from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.config_schema import tokenizer_arguments
from fastloc.checkpoints.text_loading import folder_tokenizer, named_tokenizer
from fastloc.errors import ModelError

CODE = "raise SystemExit('code of the model ran')"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Arguments of AutoTokenizer.from_pretrained."""
    calls: list[tuple[str, dict[str, Any]]] = []

    class AutoTokenizer:
        @classmethod
        def from_pretrained(cls, place: str, **options: Any) -> object:
            calls.append((place, options))
            code = Path(place) / "evil.py"
            if code.is_file():
                if options.get("trust_remote_code") is not False:
                    exec(code.read_text())
                raise ValueError(f"Loading {place} requires you to execute the tokenizer file in that repo on your local machine.\nMore")
            return object()

    stand_in = ModuleType("transformers")
    stand_in.AutoTokenizer = AutoTokenizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    return calls


def folder(path: Path, **text: Any) -> Path:
    """The embedded model in a folder of its own, with other fields in its text_cfg."""
    content = json.loads(embedded.CONFIG.read_text())
    content["model_cfg"]["text_cfg"] |= text
    (path / "open_clip_config.json").write_text(json.dumps(content))
    shutil.copy(embedded.MODEL, path)
    return path


@pytest.mark.parametrize(
    "name",
    ["trust_remote_code", "code_revision", "cache_dir", "subfolder", "tokenizer_file", "tokenizer_type", "auto_map", "use_fast", "bpe_path",
     "_from_auto", "proxies", "token"],
)  # fmt: skip
@pytest.mark.parametrize("value", [True, "x"])
def test_other_arguments_are_refused(name: str, value: object, asked: list[Any], tmp_path: Path) -> None:
    model = folder(tmp_path, hf_tokenizer_name="x", tokenizer_kwargs={name: value})
    with pytest.raises(ModelError, match=f"tokenizer_kwargs must be among clean, .*, got '{name}': remove it"):
        loading.load(str(model))
    assert asked == []


def test_code_beside_a_model_is_not_run(asked: list[Any], tmp_path: Path) -> None:
    model = folder(tmp_path, hf_tokenizer_name="x")
    (tmp_path / "spiece.model").write_bytes(b"")
    (tmp_path / "evil.py").write_text(CODE)
    with pytest.raises(ModelError, match=r"cannot be loaded: Loading .* requires you to execute the tokenizer file") as caught:
        loading.load(str(model))
    assert "\n" not in str(caught.value)
    assert asked == [(str(tmp_path), {"cache_dir": None, "trust_remote_code": False})]


def test_harmless_arguments_stay_with_open_clip(asked: list[Any], tmp_path: Path) -> None:
    model = folder(
        tmp_path, hf_tokenizer_name="x", tokenizer_mode="clips", tokenizer_kwargs={"clean": "canonicalize", "strip_sep_token": True}
    )  # fmt: skip
    (tmp_path / "spiece.model").write_bytes(b"")
    tokenizer: Any = loading.load(str(model)).text.tokenizer
    assert isinstance(tokenizer, HFTokenizer) and tokenizer.strip_sep_token and tokenizer.tokenizer_mode == "clips"
    assert tokenizer.clean_fn.__name__ == "_clean_canonicalize" and tokenizer.context_length == 24
    assert asked == [(str(tmp_path), {"cache_dir": None, "trust_remote_code": False})]


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-L-14-CLIPA", "xlm-roberta-base-ViT-B-32"])
def test_a_model_by_name_runs_no_code_either(name: str, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that transformers alone reads come from the hub first, so transformers sends no request."""
    (tmp_path / "spiece.model").write_bytes(b"")
    fetched = list[str]()
    monkeypatch.setattr(hub, "tokenizer", lambda repository: fetched.append(repository.name) or tmp_path)
    config = open_clip.get_model_config(name)
    assert config is not None
    tokenizer = named_tokenizer(name, config)
    expected = open_clip.get_tokenizer(name)
    ((place, options), (same, _)) = asked
    assert place == str(tmp_path) and fetched == [same] == [config["text_cfg"]["hf_tokenizer_name"]]
    assert options == {"cache_dir": None, "trust_remote_code": False}
    for field in ("clean_fn", "strip_sep_token", "context_length", "tokenizer_mode"):
        assert getattr(tokenizer, field) == getattr(expected, field)


def test_every_model_of_open_clip_says_what_is_allowed() -> None:
    keys = set[str]()
    for name in open_clip.list_models():
        text = open_clip.get_model_config(name)["text_cfg"]  # type: ignore[index]  # it is listed
        keys |= set(tokenizer_arguments(text, name))
    assert keys == {"clean", "strip_sep_token"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], None),
        (None, None),
        (["trust_remote_code"], "it must be an object, got list"),
        ({"clean": "rm -rf"}, "unknown clean 'rm -rf'"),
        ({"clean": 3}, "clean must be str | null, got int"),
        ({"strip_sep_token": "yes"}, "strip_sep_token must be bool, got str"),
        ({"language": "../.."}, "language must be a code such as eng_Latn"),
        ({"tokenizer_mode": "x"}, "unknown tokenizer_mode 'x'"),
    ],
)
def test_values_of_arguments(arguments: Any, message: str | None) -> None:
    if message is None:
        assert tokenizer_arguments({"tokenizer_kwargs": arguments}, "f") == {}
        return
    with pytest.raises(ModelError) as caught:
        tokenizer_arguments({"tokenizer_kwargs": arguments}, "f")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_s_byte_pairs_are_cleaned_as_it_says(tmp_path: Path) -> None:
    plain = folder_tokenizer({"text_cfg": {"context_length": 9}}, tmp_path)
    canonical = folder_tokenizer({"text_cfg": {"context_length": 9, "tokenizer_kwargs": {"clean": "canonicalize"}}}, tmp_path)
    assert isinstance(plain, BytePairs) and isinstance(canonical, SimpleTokenizer)
    assert canonical(["A cat!"]).tolist() == plain(["a cat"]).tolist()
