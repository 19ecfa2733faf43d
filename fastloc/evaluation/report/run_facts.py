"""Facts of a run, as names and values under headings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.running.settings import RunFile, Settings

__all__ = ["Facts", "model_name", "run_facts", "settings_rows"]

Facts = Mapping[str, tuple[tuple[str, str], ...]]
# of a protocol, said under other names
_SAID = ("paper", "data", "source", "note", "refinement_settings", "method_settings")


def run_facts(run: RunFile) -> Facts:
    """Model, data, protocol and machine of a run."""
    settings, row = run.settings, run.settings.protocol
    note = (("note", row.note),) if row.note else ()
    return {
        "Model": (
            ("model", model_name(settings)), ("digest", settings.digest), ("method", settings.method),
            ("form", "to the letter of its authors' code" if settings.official else "fastloc's own"), ("dtype", settings.dtype),
            ("device", settings.device), *sorted(settings.model_options.items()),
        ),
        "Data": (
            ("set", settings.data), ("folder", settings.root), ("pictures", f"{settings.pictures:,}"),
            ("classes", f"{len(settings.classes):,}"), ("keys", f"sha256:{settings.keys}"), *sorted(settings.options.items()),
        ),
        f"Protocol {row.paper}": (("source", row.source or "none"), *_fields(row), *note),
        "Machine": (("fastloc", run.fastloc), ("machine", run.machine), *(each for each in run.versions.items() if each[0] != "fastloc")),
    }  # fmt: skip


def model_name(settings: Settings) -> str:
    """The model's name and weights, such as "ViT-B-16 openai"."""
    return f"{settings.model} {settings.pretrained}".strip()


def settings_rows(settings: Settings) -> dict[str, str]:
    """Every setting that rows depend on by its name, the protocol's fields among them."""
    plain = {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in ("protocol", "changed")}
    row = {f"protocol {each.name}": getattr(settings.protocol, each.name) for each in fields(settings.protocol)}
    return {name: _value(value) for name, value in {**plain, **row}.items()}


def _fields(row: Protocol) -> list[tuple[str, str]]:
    found = [(each.name, _value(getattr(row, each.name))) for each in fields(row) if each.name not in _SAID]
    settings = {"refinement": row.refinement_settings, "method": row.method_settings}
    return found + [(f"{of} {name}", _value(value)) for of, each in settings.items() for name, value in each]


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return _value(tuple(f"{key} {each}" for key, each in value.items()))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    return "none" if value in (None, "") else str(value)
