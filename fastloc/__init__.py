"""fastloc: where in this picture is *that*, in words?

    from fastloc import Localizer

    result = Localizer()("photo.jpg", ["a dog", "a red car"])
    result.points()          # where each text peaks, in pixels of the picture
    result.save("where.png")

Importing the package is light: torch, onnxruntime and even numpy are first imported by the name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fastloc._version import __version__

if TYPE_CHECKING:
    from typing import Any

    from fastloc.analysis.text_relevance import text_relevance
    from fastloc.auto import load
    from fastloc.client.async_client import AsyncClient
    from fastloc.client.client import Client
    from fastloc.engine.classifier_localizer import CnnLocalizer
    from fastloc.engine.localizer import Localizer
    from fastloc.errors import FastlocError, FastlocWarning
    from fastloc.imaging.example import Example
    from fastloc.results.result import Result
    from fastloc.runtime.localizer import OnnxLocalizer
    from fastloc.text.embeddings import TextEmbeddings
    from fastloc.video.pipeline import Pipeline
    from fastloc.video.stream import stream

__all__ = [
    "AsyncClient", "Client", "CnnLocalizer", "Example", "FastlocError", "FastlocWarning", "Localizer", "OnnxLocalizer", "Pipeline",
    "Result", "TextEmbeddings", "__version__", "load", "methods", "models", "stream", "text_relevance",
]  # fmt: skip

# public name -> the room it lives in
_ROOMS = {
    "AsyncClient": "client.async_client",
    "Client": "client.client",
    "CnnLocalizer": "engine.classifier_localizer",
    "Example": "imaging.example",
    "FastlocError": "errors",
    "FastlocWarning": "errors",
    "Localizer": "engine.localizer",
    "OnnxLocalizer": "runtime.localizer",
    "Pipeline": "video.pipeline",
    "Result": "results.result",
    "TextEmbeddings": "text.embeddings",
    "load": "auto",
    "stream": "video.stream",
    "text_relevance": "analysis.text_relevance",
}


def methods() -> list[str]:
    """The names that `Localizer(method=...)` takes; `fastloc.recipes.RECIPES` holds each one's computation."""
    from fastloc.recipes import RECIPES

    return list(RECIPES)


def models() -> "list[dict[str, Any]]":
    """Every model by name: {"name", "pretrained": tags, "refused": why it does not fit, or None}. Imports torch and open_clip."""
    from fastloc.checkpoints.sources.listing import models as every_model

    return every_model()


# hidden from type checkers, to which it would make every misspelt name a good one
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _ROOMS:
            raise AttributeError(f"module 'fastloc' has no attribute {name!r}; it offers {', '.join(__all__)}")
        value = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
