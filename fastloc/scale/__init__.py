"""Batches of any number of pictures: rows in Parquet, by one process or by many. `fastloc.scale.Locate` is what others' pipelines take, and
`fastloc.scale:app` what Ray Serve runs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastloc.scale.locate import Locate
    from fastloc.serve.ray_app import app

__all__ = ["Locate", "app"]

# public name -> the module it lives in
_MODULES = {"Locate": "fastloc.scale.locate", "app": "fastloc.serve.ray_app"}

# hidden from type checkers, to which it would make every misspelt name a good one
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'fastloc.scale' has no attribute {name!r}; it offers {', '.join(_MODULES)}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
