"""A protocol in a few words a column, for lists and tables."""

from __future__ import annotations

from dataclasses import fields

from fastloc.evaluation.protocols.schema import Protocol
from fastloc.imaging.refined_heatmaps import REFINEMENTS

__all__ = ["COLUMNS", "described"]

COLUMNS = ("size", "windows", "names", "template", "scale", "thresholds", "refinement", "more")
_LONG = Protocol(paper="", data="", source="").long_side


def described(row: Protocol) -> tuple[str, ...]:
    """One cell for each of `COLUMNS`, such as "336", "224 / 112", "sclip", "openai80", "65", "0.1, area 0.1", "pamr", "closing 3"; "" for
    nothing."""
    labels = row.task == "labels"
    scale = "" if not labels else "the model's" if row.logit_scale is None else f"{row.logit_scale:g}"
    return (
        _size(row), _windows(row), "the set's" if row.names == "plain" else row.names, row.template or "the method's", scale,
        _thresholds(row) if labels else _inside(row), _refinement(row), ", ".join(_more(row)),
    )  # fmt: skip


def _size(row: Protocol) -> str:
    side = row.short_side
    long_side = f", long side at most {row.long_side}" if row.long_side != _LONG else ""
    return {"mmcv": f"{side}{long_side}", "fit": "the localizer's", "whole-patches": f"{side}, whole patches", "square": f"{side} x {side}",
            "centre": f"{side} x {side}, the centre"}[row.resize]  # fmt: skip


def _windows(row: Protocol) -> str:
    if row.cut == "squares":
        return "two squares"
    return f"{row.crop} / {row.stride}{', padded' if row.odd == 'pad' else ''}" if row.crop else "whole"


def _thresholds(row: Protocol) -> str:
    if row.rule == "cliper":
        score, background, attention = row.thresholds
        normalized = ", min-maxed" if row.normalized else ""
        return f"score {score:g}, background {background:g}, attention {attention:g}{normalized}"
    found = [f"{row.probability:g}"] if row.probability else []
    return ", ".join(found + ([] if row.area is None else [f"area {row.area:g}"]))


def _inside(row: Protocol) -> str:
    return "the map's mean" if isinstance(row.threshold, str) else f"{row.threshold:g}"


def _refinement(row: Protocol) -> str:
    """The step, and settings that are not its usual ones."""
    if not row.refinement:
        return ""
    usual = {each.name: each.default for each in fields(REFINEMENTS[row.refinement])}
    own = {name: value for name, value in row.refinement_settings if usual[name] != value}
    settings = (f"{name} {'+'.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in own.items())
    return ", ".join((row.refinement, *settings))


def _more(row: Protocol) -> list[str]:
    found = [f"views, flipped ones {1 - row.view_weight:.2g}"] if row.views else []
    found += [f"closing {row.closing}"] if row.closing else []
    found += ["mean over true classes"] if row.absent == "truth" else []
    found += [f"truth at {row.truth_side} x {row.truth_side}"] if row.truth_side else []
    found += [f"{row.asked} classes asked"] if row.task == "questions" else []
    return found
