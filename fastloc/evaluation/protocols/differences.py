"""Published figures beside a run's own, and the known reasons for a difference."""

from __future__ import annotations

from dataclasses import dataclass

from fastloc.evaluation.protocols.changes import changed, with_changes
from fastloc.evaluation.protocols.published import Figure, figures
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.protocols.table import PAPERS, PROTOCOLS
from fastloc.recipes.official import OFFICIAL

__all__ = ["Ran", "comparable_figures", "differences", "overview"]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The settings of a run on which its figures depend.

    model, pretrained: as open_clip names them, or a file. official: the method exactly as in its authors' code.
    pictures, expected: the numbers of evaluated pictures and of those in the published split (0: not known). failed: could not be read.
    dtype: of the encoder, such as "float32".
    """

    method: str
    model: str
    pretrained: str
    protocol: Protocol
    official: bool = False
    pictures: int = 0
    expected: int = 0
    failed: int = 0
    dtype: str = "float32"


def comparable_figures(ran: Ran) -> tuple[Figure, ...]:
    """Published figures of the method on the set, the nearest to the run first: of the same model and weights, then under the protocol that
    differs in the fewest fields, then with no extras. () where none is published."""

    def distance(figure: Figure) -> tuple[bool, bool, int, bool]:
        fields = _fields(ran.protocol, figure)
        # more than there are: the source does not say its protocol
        far = len(fields) if fields is not None else len(Protocol.__dataclass_fields__)
        return figure.model != _model(ran.model), figure.pretrained != ran.pretrained, far, bool(figure.extra)

    return tuple(sorted(figures(ran.protocol.data, ran.method), key=distance))


def differences(ran: Ran, figure: Figure) -> tuple[str, ...]:
    """Known reasons for a difference between the run's figure and a published one, one line each; () where none is known."""
    lines = []
    for name, here, there in (("method", ran.method, figure.method), ("model", ran.model, figure.model),
                              ("weights", ran.pretrained, figure.pretrained)):  # fmt: skip
        if here != there and (name != "model" or _model(here) != there):
            lines.append(f"{name}: {here or 'its own'} here, {there or 'its own'} there")
    fields = _fields(ran.protocol, figure)
    if fields is None:
        lines.append("protocol: the source does not say which; class names, sizes and thresholds may differ")
    else:
        lines += [f"{name}: {_shown(here)} here, {_shown(there)} there" for name, (here, there) in fields.items()]
    if figure.extra:
        lines.append(f"extra: {figure.extra} there")
    if ran.protocol.note:
        lines.append(f"protocol {ran.protocol.paper}: {ran.protocol.note}")
    if not ran.official and ran.method in OFFICIAL:
        lines.append("form: fastloc's own row of the method, not the letter of its authors' code")
    if ran.expected and ran.pictures != ran.expected:
        lines.append(f"pictures: {ran.pictures} here, {ran.expected} in the published split")
    if ran.failed:
        lines.append(f"failed: {ran.failed} of the pictures could not be read, and are not counted")
    if ran.dtype != "float32":
        lines.append(f"precision: {ran.dtype} here")
    return tuple(lines)


def overview(model: str = "ViT-B-16", pretrained: str = "openai") -> dict[str, dict[str, Figure]]:
    """Published figures of each paper's own method under its protocol: protocol -> set -> figure, one without extras where there is one."""
    found: dict[str, dict[str, Figure]] = {}
    for figure in figures():
        paper = PAPERS.get(figure.protocol)
        own = paper is not None and paper.method in ("", figure.method)
        if own and (figure.model, figure.pretrained, figure.changes) == (model, pretrained, ()):
            row = found.setdefault(figure.protocol, {})
            if figure.data not in row or (row[figure.data].extra and not figure.extra):
                row[figure.data] = figure
    return found


def _fields(protocol: Protocol, figure: Figure) -> dict[str, tuple[object, object]] | None:
    """The fields in which the run's protocol and the figure's differ; None where the figure's is not known."""
    row = PROTOCOLS.get((figure.protocol, figure.data))
    if row is None:
        return None
    found = changed(protocol, with_changes(row, dict(figure.changes)))
    # what says the same twice, or says nothing
    if "refinement" in found:
        found.pop("refinement_settings", None)
    if not protocol.crop:
        found.pop("stride", None)
    return found


def _model(name: str) -> str:
    """A model's name as figures have it: OpenAI's slash, and open_clip's word for the activation, are not of the architecture."""
    return name.replace("/", "-").removesuffix("-quickgelu")


def _shown(value: object) -> str:
    if value in ("", (), None):
        return "none"
    if isinstance(value, tuple):
        return ", ".join("=".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value)
    return str(value)
