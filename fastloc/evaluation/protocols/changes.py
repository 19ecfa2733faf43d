"""Rows with single fields changed, as a command line gives them, and their differences from the paper's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from fastloc.errors import FastlocError, unknown
from fastloc.evaluation.protocols.names import NAMES, class_names
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.imaging import refined_heatmaps
from fastloc.text.templates import sentences
from fastloc.utils import schema

__all__ = ["CHANGEABLE", "changed", "with_changes"]

# what says which row it is, or is a setting of another field
_FIXED = ("paper", "data", "source", "task", "note", "refinement_settings", "method_settings")
_KINDS = get_type_hints(Protocol)
CHANGEABLE = tuple(each.name for each in fields(Protocol) if each.name not in _FIXED)
_SETTING = "refinement."


def with_changes(protocol: Protocol, changes: Mapping[str, str]) -> Protocol:
    """A row with fields changed, the values as text: {"crop": "0", "area": "none", "thresholds": "0.7,0.6,0.1"}.

    A setting of the refinement is "refinement.iterations": "5"; another refinement comes with its usual settings.

    Raises:
        FastlocError: an unknown field, or one that identifies the row; a value of another type or out of range.
    """
    values: dict[str, Any] = {}
    settings = dict(protocol.refinement_settings)
    for name, text in changes.items():
        if name.startswith(_SETTING):
            continue
        if name not in CHANGEABLE:
            raise FastlocError(unknown("protocol field", name, CHANGEABLE))
        values[name] = _typed(name, text)
    if values.get("refinement", protocol.refinement) != protocol.refinement:
        settings = {}
    for name, text in changes.items():
        if name.startswith(_SETTING):
            settings[name.removeprefix(_SETTING)] = _setting(name, text)
    values["refinement_settings"] = tuple(settings.items())
    row = replace(protocol, **values)
    _check(row)
    return row


def changed(protocol: Protocol, row: Protocol) -> dict[str, tuple[object, object]]:
    """The fields in which two protocols differ: (of the first, of the second) by name."""
    names = (*CHANGEABLE, "refinement_settings", "method_settings")
    return {name: pair for name in names if (pair := (getattr(protocol, name), getattr(row, name)))[0] != pair[1]}


def _check(row: Protocol) -> None:
    """Raise FastlocError for names, a template or a refinement's settings that are not known."""
    if row.names not in NAMES:
        raise FastlocError(unknown("name list", row.names, NAMES))
    if row.names != "plain":
        class_names(row.names, row.data)
    if row.template:
        sentences(row.template)
    settings = dict(row.refinement_settings)
    if row.refinement:
        refined_heatmaps.refinement(row.refinement, settings)
    elif settings:
        raise FastlocError(f"refinement must be pamr or propagate where {_SETTING}{next(iter(settings))} is given, got none")


def _typed(name: str, text: str) -> object:
    kind, plain = _KINDS[name], text.strip()
    if plain.lower() == "none":
        if kind is str:
            return ""
        if kind in (int | None, float | None):
            return None
    if name == "threshold" and plain == "mean":
        return plain
    if kind is str:
        return plain
    if kind is bool:
        schema.one_of(name, plain.lower(), ("true", "false"))
        return plain.lower() == "true"
    if name == "thresholds":
        return tuple(_number(name, each, float) for each in plain.split(",")) if plain else ()
    return _number(name, plain, int if kind is int else float)


def _setting(name: str, text: str) -> object:
    """One whole number, or several with commas between."""
    numbers = tuple(_number(name, each, int) for each in text.split(","))
    return numbers if "," in text else numbers[0]


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(text)
    except ValueError:
        rule = "a whole number" if kind is int else "a number"
        raise FastlocError(f"{name} must be {rule}, got {schema.shown(text)}") from None
