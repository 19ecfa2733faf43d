"""Files of the installed open_clip package, read without importing it, which takes longer than importing torch."""

import json
import re
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["folder", "model_config", "model_names", "repositories", "tags", "vocabulary_file"]

# a package for importing open_clip's table of tags without the rest of `import open_clip`
_ALONE = "fastloc_open_clip_files"
# a file is a model's configuration if it has all of these
_PARTS = {"embed_dim", "vision_cfg", "text_cfg"}


@cache
def folder() -> Path:
    """The folder of the installed package.

    Raises:
        ModuleNotFoundError: it is not installed, as for its import.
    """
    found = find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
    return Path(found.submodule_search_locations[0])


def model_config(name: str) -> dict[str, Any] | None:
    """A copy of open_clip's configuration of the model of this name, or None if there is none."""
    # the listing is compared rather than the path, because some file systems ignore case
    files = {file.stem: file for file in (folder() / "model_configs").glob("*.json")}
    if name in files and "open_clip" not in sys.modules:
        content: dict[str, Any] = json.loads(files[name].read_text(encoding="utf-8"))
        if set(content) >= _PARTS:
            return content
    # an imported open_clip also knows configurations that were added to it
    import open_clip

    found: dict[str, Any] | None = open_clip.get_model_config(name)
    return found


def model_names() -> list[str]:
    """The models that open_clip knows, sizes in the order of their numbers."""
    if "open_clip" in sys.modules:
        # an imported open_clip also knows configurations that were added to it
        found: list[str] = import_module("open_clip").list_models()
        return found
    files = [file for file in (folder() / "model_configs").glob("*.json") if set(json.loads(file.read_text(encoding="utf-8"))) >= _PARTS]
    return sorted((file.stem for file in files), key=lambda name: [(len(part), part) for part in re.split(r"(\d+)", name.lower())])


def repositories(name: str) -> dict[str, str]:
    """The tags of a model, each with the repository on the hub that holds its weights ("" for a file elsewhere)."""
    table = tags()
    return {tag: table.get_pretrained_cfg(name, tag).get("hf_hub", "").rstrip("/") for tag in table.list_pretrained_tags_by_model(name)}


def tags() -> ModuleType:
    """open_clip's table of pretrained tags, its module `pretrained`, without the rest of the package unless that is imported already."""
    if "open_clip" in sys.modules:
        return import_module("open_clip.pretrained")
    if _ALONE not in sys.modules:
        package = ModuleType(_ALONE, "The folder of open_clip as a package whose __init__ is not run.")
        package.__path__ = [str(folder())]
        sys.modules[_ALONE] = package
    return import_module(f"{_ALONE}.pretrained")


def vocabulary_file() -> Path:
    """CLIP's byte pairs, the commonest first, as gzipped text."""
    return folder() / "bpe_simple_vocab_16e6.txt.gz"
