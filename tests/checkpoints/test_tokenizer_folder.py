"""Tokenizers of other vocabularies than CLIP's, from their files alone: ids as open_clip's HFTokenizer gives them, and wrong files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from fastloc.checkpoints.byte_pairs import BytePairs
from fastloc.checkpoints.text.repair import cleaned
from fastloc.checkpoints.text.tokenizer_folder import FolderTokenizer
from fastloc.checkpoints.text_encoder import TextEncoder
from fastloc.checkpoints.text_loading import folder_tokenizer, named_tokenizer, repository_tokenizer
from fastloc.checkpoints.text_tower import TextTower
from fastloc.errors import FastlocWarning, ModelError
from hub_fixtures import cache_fixture, server_fixture  # noqa: F401
from hub_server import Faults, HubServer
from tokenizer_families import FAMILIES, TEXTS, make

CONTEXT = 24
# what stands before and behind a text, and what fills it up
FRAMES = {
    "siglip": ([], ["</s>"], "</s>"), "siglip2": ([], ["<eos>"], "<pad>"), "xlm-v": (["<s>"], ["</s>"], "<pad>"),
    "roberta": (["<s>"], ["</s>"], "<pad>"), "mt5": ([], ["</s>"], "<pad>"), "nllb": (["eng_Latn"], ["</s>"], "<pad>"),
    "bert": (["[CLS]"], ["[SEP]"], "[PAD]"), "tips": ([], [], "<pad>"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: make(kind, root / kind) for kind in FAMILIES}


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_texts_are_framed_cut_and_filled_up(kind: str, clean: str, folders: dict[str, Path]):
    made, inner = FolderTokenizer(folders[kind], CONTEXT, clean), Tokenizer.from_file(str(folders[kind] / "tokenizer.json"))
    before, after, pad = ([inner.token_to_id(each) for each in part] for part in (*FRAMES[kind][:2], [FRAMES[kind][2]]))
    for text, found in zip(TEXTS, made(list(TEXTS)).tolist(), strict=True):
        middle = inner.encode(cleaned(text, clean), add_special_tokens=False).ids[: CONTEXT - len(before) - len(after)]
        expected = [*before, *middle, *after]
        assert found == [*expected, *pad * (CONTEXT - len(expected))], text
    assert made.length("a " * 60) > CONTEXT >= made.length("")
    assert made.pad == pad[0] and made.vocabulary == inner.get_vocab_size()


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_ids_are_open_clip_s(kind: str, clean: str, folders: dict[str, Path]):
    """Ids of a folder's tokenizer equal open_clip's; needs transformers."""
    pytest.importorskip("transformers")
    from open_clip.tokenizer import HFTokenizer

    strip = kind == "bert"
    theirs: Any = HFTokenizer(str(folders[kind]), CONTEXT, clean, strip_sep_token=strip, trust_remote_code=False)
    found = FolderTokenizer(folders[kind], CONTEXT, clean, strip_sep_token=strip)(list(TEXTS))
    assert torch.equal(found, theirs(list(TEXTS)))


def test_canonical_texts_are_those_of_siglip():
    assert cleaned(" A_Photo of  CATS, dogs & (birds)! ", "canonicalize") == "a photo of cats dogs birds"
    assert cleaned("caf&eacute; “x”", "canonicalize") == "café x"
    # mojibake is repaired here, as in open_clip
    assert cleaned("cafÃ©", "lower") == "café"


def test_what_a_configuration_says_of_its_tokenizer(folders: dict[str, Path]):
    text = {"context_length": 8, "hf_tokenizer_name": "x", "tokenizer_kwargs": {"strip_sep_token": True, "clean": "lower"}}
    made = folder_tokenizer({"text_cfg": text}, folders["bert"])
    assert isinstance(made, FolderTokenizer) and made.context_length == 8 and made.kind == "lower"
    # CLIPA's separator, id 3, is 0 as padding is
    assert (made(["a cat"]) == 0).sum() > 1 and not (made(["a cat"]) == 3).any()
    french = folder_tokenizer({"text_cfg": {**text, "tokenizer_kwargs": {"language": "fra_Latn"}}}, folders["nllb"])
    assert french.decode(french(["un chat"])[0][:1]) == "fra_Latn"
    assert folder_tokenizer({"text_cfg": {**text, "tokenizer_kwargs": {}}}, folders["nllb"]).decode([279]) == "fra_Latn"


def changed(source: Path, path: Path, **config: Any) -> Path:
    """A copy of a folder with other fields in its tokenizer_config.json; None removes one."""
    shutil.copytree(source, path)
    content = json.loads((path / "tokenizer_config.json").read_text()) | config
    content = {name: value for name, value in content.items() if value is not None}
    (path / "tokenizer_config.json").write_text(json.dumps(content))
    return path


def test_sides_and_tokens_are_those_of_the_files(folders: dict[str, Path], tmp_path: Path):
    ids = FolderTokenizer(folders["siglip2"], CONTEXT)(["a cat"])[0]
    count = int((ids != 0).sum())
    # these classes fill up on the left, unless it is set otherwise, and leave the frame to tokenizer.json where no setting names it
    for index, name in enumerate(("GemmaTokenizer", "Siglip2Tokenizer", "GemmaTokenizerFast")):
        bare = changed(
            folders["siglip2"], tmp_path / str(index), tokenizer_class=name, padding_side=None, add_bos_token=None, add_eos_token=None
        )
        found = FolderTokenizer(bare, CONTEXT)(["a cat"])[0]
        assert found[-count:].tolist() == ids[:count].tolist() and not found[:-count].any()
    started = changed(folders["siglip2"], tmp_path / "started", add_bos_token=True, add_eos_token=False)
    assert FolderTokenizer(started, CONTEXT)(["a cat"])[0, :count].tolist() == [2, *ids[: count - 1].tolist()]
    # an object instead of a text, in the older file
    older = changed(folders["mt5"], tmp_path / "older", pad_token=None)
    (older / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<unk>", "lstrip": False}}))
    assert FolderTokenizer(older, CONTEXT).pad == 2


def test_files_that_are_wrong(folders: dict[str, Path], tmp_path: Path):
    text = {"context_length": CONTEXT, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2"}
    (tmp_path / "empty").mkdir()
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "spiece.model").write_bytes(b"")
    damaged = tmp_path / "damaged"
    shutil.copytree(folders["mt5"], damaged)
    (damaged / "tokenizer.json").write_text('{"model": {"type": "Unigram", "vocab": 3}}')
    greedy = tmp_path / "greedy"
    shutil.copytree(folders["mt5"], greedy)
    content = json.loads((greedy / "tokenizer.json").read_text())
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}
    (greedy / "tokenizer.json").write_text(json.dumps({**content, "normalizer": {"type": "Sequence", "normalizers": [replace] * 3}}))
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path / "empty", {}, r"folder .*empty' must have a tokenizer\.json, and has none; put the files of 'timm/ViT-B-16-SigLIP2'"),
        (damaged, {}, r"tokenizer\.json: its tokenizer is damaged"),
        (greedy, {}, r"its tokenizer is damaged .*length that the normalizer makes"),
        (changed(folders["mt5"], tmp_path / "pad", pad_token="<blank>"), {}, "pad_token must be a token of tokenizer.json, got '<blank>'"),
        (changed(folders["siglip2"], tmp_path / "side", padding_side="up"), {}, "padding_side must be left or right, got 'up'"),
        (folders["nllb"], {"language": "xyz_Latn"}, "the language must be one of its tokens, such as eng_Latn, got 'xyz_Latn'"),
        (folders["bert"], {"language": "eng_Latn"}, "language must be left out for a tokenizer that marks none"),
    ]  # fmt: skip
    for folder, arguments, message in cases:
        with pytest.raises(ModelError, match=message) as caught:
            folder_tokenizer({"text_cfg": {**text, "tokenizer_kwargs": arguments}}, folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_files_that_transformers_alone_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "spiece.model").write_bytes(b"")
    with pytest.raises(ModelError, match=r"needs transformers and sentencepiece, .*: pip install transformers sentencepiece$") as caught:
        folder_tokenizer({"text_cfg": {"hf_tokenizer_name": "google/mt5-base"}}, tmp_path)
    assert "\n" not in str(caught.value)


def tower(**text: Any) -> TextTower:
    settings = {"context_length": CONTEXT, "vocab_size": 600, "width": 16, "heads": 2, "layers": 1, "no_causal_mask": True, **text}
    made = TextTower({"embed_dim": 8, "vision_cfg": {}, "text_cfg": settings})
    numbers = torch.Generator().manual_seed(0)
    state = {name: torch.randn(tensor.shape, generator=numbers) for name, tensor in made.state_dict().items()}
    made.load_state_dict(state, assign=True)
    return made.eval().requires_grad_(False)


MEAN = {"use_pad_mask": True, "pool_type": "mean"}


def test_a_tokenizer_of_another_model(folders: dict[str, Path]):
    made = FolderTokenizer(folders["mt5"], CONTEXT)
    with pytest.raises(ModelError, match=r"vocabulary must be at most the text tower's table of tokens, 50, got 400; .*mt5' is another"):
        TextEncoder(tower(vocab_size=50), made)
    with pytest.raises(ModelError, match=r"must fill texts up with id 1, which the text tower leaves out, got 0"):
        TextEncoder(tower(pad_id=1, **MEAN), made)
    TextEncoder(tower(pad_id=0, **MEAN), made)


def test_embeddings_that_are_none(folders: dict[str, Path]):
    empty = TextEncoder(tower(**MEAN), FolderTokenizer(folders["tips"], CONTEXT))
    assert torch.isfinite(empty(["a cat"], "plain")).all()
    # TIPS frames no text, so nothing is left of this one, which is then compared with nothing
    assert not empty.empty("plain").any()
    damaged = tower(pool_type="last")
    damaged.ln_final.bias[0] = torch.nan
    with pytest.raises(ModelError, match=r"embedding of 'a photo of a cat\.' must be finite and not all zero, got length nan"):
        TextEncoder(damaged, FolderTokenizer(folders["siglip"], CONTEXT))(["cat"], "a photo of a {}.")


def test_a_prompt_beyond_the_context_is_warned_about(folders: dict[str, Path]):
    encoder = TextEncoder(tower(pool_type="last"), FolderTokenizer(folders["siglip"], CONTEXT))
    with pytest.warns(FastlocWarning, match=r"is \d+ tokens in its template; the model reads the first 24"):
        encoder(["a " * 60 + "cat"], "plain")


# from the hub

SIGLIP: dict[str, Any] = {"text_cfg": {"context_length": CONTEXT, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2"}}


def published(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_named_model_s_tokenizer_comes_from_the_hub_once(server: HubServer, folders: dict[str, Path]):
    others = {"model.safetensors": b"large", "tokenizer.py": b"raise SystemExit", "spiece.model": b"slow"}
    server.repositories["timm/ViT-B-16-SigLIP2"] = {**published(folders["siglip2"]), **others}
    made = named_tokenizer("ViT-B-16-SigLIP2", SIGLIP)
    assert isinstance(made, FolderTokenizer)
    assert torch.equal(made(list(TEXTS)), FolderTokenizer(folders["siglip2"], CONTEXT)(list(TEXTS)))
    assert {each.path.rpartition("/")[2] for each in server.asked("GET") if "/resolve/" in each.path} == {
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    server.requests.clear()
    named_tokenizer("ViT-B-16-SigLIP2", SIGLIP)
    assert server.requests == []


def test_a_repository_without_an_owner(server: HubServer, folders: dict[str, Path]):
    server.repositories["bert-base-uncased"] = published(folders["bert"])
    text = {"context_length": 8, "hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True}}
    assert named_tokenizer("ViT-L-14-CLIPA", {"text_cfg": text}).zeroed == 3


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((403, "GatedRepo"), "repository 'timm/ViT-B-16-SigLIP2' is gated; accept its terms on http://127.0.0.1:"),
        ((404, "RepoNotFound"), "has no repository 'timm/ViT-B-16-SigLIP2', or it is private; check the name"),
        ((404, "EntryNotFound"), "repository 'timm/ViT-B-16-SigLIP2' has no 'tokenizer.json'"),
        ((500, ""), "answers 500; try again later, or give the folder of a copy of the model with its files"),
    ],
)
def test_repositories_that_give_no_tokenizer(server: HubServer, refuse: tuple[int, str], message: str):
    server.faults = Faults(refuse=refuse)
    with pytest.raises(ModelError) as caught:
        named_tokenizer("ViT-B-16-SigLIP2", SIGLIP)
    found = str(caught.value)
    assert found.startswith("the tokenizer of ViT-B-16-SigLIP2 could not be downloaded: ") and message in found and "\n" not in found


def test_what_transformers_alone_reads_is_fetched_too(server: HubServer, monkeypatch: pytest.MonkeyPatch):
    """So that it makes no request of its own."""
    server.repositories["timm/ViT-B-16-SigLIP2"] = {"spiece.model": b"slow"}
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"needs transformers and sentencepiece, which read its spiece\.model"):
        named_tokenizer("ViT-B-16-SigLIP2", SIGLIP)
    server.requests.clear()
    with pytest.raises(ModelError, match=r"needs transformers and sentencepiece, which read its spiece\.model"):
        named_tokenizer("ViT-B-16-SigLIP2", SIGLIP)
    assert server.requests == []


def test_a_repository_s_own_tokenizer_goes_before_the_one_it_names(server: HubServer, folders: dict[str, Path], tmp_path: Path):
    server.repositories["timm/ViT-B-16-SigLIP2"] = published(folders["siglip2"])
    named = repository_tokenizer("hf-hub:a/b", SIGLIP, tmp_path)
    assert named.pad == 0 and named.folder != tmp_path
    own = repository_tokenizer("hf-hub:a/b", SIGLIP, folders["xlm-v"])
    assert own.pad == 1 and own.folder == folders["xlm-v"]
    # a model without either has CLIP's
    assert isinstance(repository_tokenizer("hf-hub:a/b", {"text_cfg": {}}, tmp_path), BytePairs)
