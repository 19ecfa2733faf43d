"""Entrants of a run: each a model with a method, the protocol that it is judged under, and its judge."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastloc.auto import CLASSIFIER, EXPORTED, METHOD, kind_of
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, RecipeError, warn
from fastloc.evaluation.judges import Judge
from fastloc.evaluation.protocols.changes import changed, with_changes
from fastloc.evaluation.protocols.names import Names, names_of
from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.protocols.table import PAPERS, protocol_of
from fastloc.evaluation.questions.judge import QuestionJudge
from fastloc.evaluation.running.subjects import EngineSubject, FileSubject, check_size, subject_of, with_template
from fastloc.evaluation.samples import DataSet
from fastloc.evaluation.segmentation.judge import SegmentationJudge
from fastloc.evaluation.sets import class_names
from fastloc.runtime.localizer import OnnxLocalizer

__all__ = ["OWN", "Asked", "Entrant", "entrants"]

# the names of a protocol that are of a file of the user's
OWN = "own"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The request for a run.

    methods: names of methods; () for the model's own: GEM, or that of an exported file.
    model, pretrained: see `fastloc.load`; against: an exported file that takes part too, or None.
    paper: whose protocol; None for each method's own where it has one for the set, else SCLIP's, else "plain".
    changes: fields of the protocol, the values as text, see `fastloc.evaluation.protocols.changes.with_changes`.
    names: a file of class names in the place of the protocol's, see `fastloc.evaluation.sets.class_names.read`, or None.
    options: of the localizer, by name.
    """

    methods: Sequence[str] = ()
    model: str | os.PathLike[str] = "embedded"
    pretrained: str | None = None
    against: str | os.PathLike[str] | None = None
    paper: str | None = None
    changes: Mapping[str, str]
    names: str | os.PathLike[str] | None = None
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Entrant:
    """One entrant of a run. name: of its folder; changed: fields of the protocol that are not the paper's."""

    name: str
    model: str
    pretrained: str
    official: bool
    localizer: Localizer | OnnxLocalizer
    subject: EngineSubject | FileSubject
    protocol: Protocol
    changed: tuple[str, ...]
    names: Names
    judge: Judge[Any]
    device: str


def entrants(dataset: DataSet, asked: Asked) -> list[Entrant]:
    """Load the models and encode the texts.

    Raises FastlocError: a model, method, protocol or text that cannot be used, or an exported file of another input size.
    """
    found = _of_file(dataset, asked, asked.model) if kind_of(asked.model) == EXPORTED else _of_engine(dataset, asked)
    if asked.against is not None:
        if kind_of(asked.against) != EXPORTED:
            raise FastlocError(f"against must be an exported .onnx file, got {os.fspath(asked.against)!r}; `fastloc export` writes one")
        found += _of_file(dataset, asked, asked.against, {each.name for each in found})
    return found


def _of_engine(dataset: DataSet, asked: Asked) -> list[Entrant]:
    if kind_of(asked.model) == CLASSIFIER:
        raise FastlocError(f"model must be a CLIP or an exported .onnx file, got the classifier {asked.model}")
    methods = list(dict.fromkeys(asked.methods)) or [METHOD]
    name = os.fspath(asked.model)
    papers = {method: _protocol(method, name, dataset, asked) for method in methods}
    options = dict(asked.options)
    official = bool(options.pop("official", False))
    again = {name: options[name] for name in options if name in ("fit", "blocks", "iterations", "inv_temp")}
    base = Localizer(name, asked.pretrained, methods[0], **options)
    found = []
    for method in methods:
        own = PAPERS[papers[method][0].paper].method == method
        changes = {**_method_settings(method, papers[method][0]), **again}
        # a text of the set: a tower of few words may not take any other
        text = next((each for texts in _names(papers[method][0], dataset, asked.names) for each in texts), "a picture")
        localizer, letter = _with_method(base, method, papers[method][0], official or own, changes, text)
        found.append(_entrant(method, asked.model, asked.pretrained, localizer, letter, dataset, asked.names, *papers[method]))
    return found


def _with_method(
    base: Localizer, method: str, protocol: Protocol, official: bool, changes: Mapping[str, Any], text: str
) -> tuple[Localizer, bool]:  # fmt: skip
    """The localizer of a method under a protocol, called once with a text, and whether it is to the letter of the authors' code."""
    template = protocol.template or None
    try:
        return _tried(base.with_method(method, official=official, template=template, **changes), text), official
    except RecipeError as error:
        if not official:
            raise
        warn(f"{method} runs as its row, not to the letter of its authors' code: {error}", stacklevel=2)
        return _tried(base.with_method(method, official=False, template=template, **changes), text), False


def _tried(localizer: Localizer, text: str) -> Localizer:
    """The localizer, once it has answered: what its method asks of the model is found here, not by the first picture."""
    height, width = (4 * side for side in localizer.source.spec.patch)
    localizer.similarity(torch.zeros(1, 3, height, width, device=localizer.device), [text])
    return localizer


def _method_settings(method: str, protocol: Protocol) -> dict[str, Any]:
    """Fields of the recipe that a paper sets for its own method. CLIPer shares patches out at the protocol's scale, and cuts maps off at
    the protocol's threshold."""
    if PAPERS[protocol.paper].method != method:
        return {}
    settings = dict(protocol.method_settings)
    if protocol.rule == "cliper":
        settings |= {"cutoff": protocol.thresholds[2]} | ({} if protocol.logit_scale is None else {"target_scale": protocol.logit_scale})
    return settings


def _of_file(dataset: DataSet, asked: Asked, path: str | os.PathLike[str], taken: Iterable[str] = ()) -> list[Entrant]:
    if kind_of(asked.model) == EXPORTED:
        if asked.methods:
            raise FastlocError(f"method must be the file's, got {', '.join(asked.methods)} for {path}; export another file")
        if asked.pretrained is not None:
            raise FastlocError(f"pretrained must be left out for an exported file, got {asked.pretrained!r} for {path}")
    known = ("providers", "text", "embeddings", "size")
    wrong = [name for name in asked.options if name not in known] if kind_of(asked.model) == EXPORTED else []
    if wrong:
        raise FastlocError(f"{wrong[0]} cannot be given with {path}: the file decides that; export another")
    options = {name: value for name, value in asked.options.items() if name in known}
    localizer = OnnxLocalizer(path, **options)
    row, fields = _protocol(localizer.method, localizer.manifest.model.name, dataset, asked)
    for field, value in _method_settings(localizer.method, row).items():
        if (exported := getattr(localizer.manifest.recipe, field)) != value:
            message = f"{path} has {field} {exported}, and the protocol {row.paper} on {row.data} has {value}: figures are not the paper's"
            warn(message, stacklevel=2)
    name = Path(path).stem
    name = f"{name}-against" if name in taken else name
    return [_entrant(name, path, None, with_template(localizer, row.template), False, dataset, asked.names, row, fields)]


def _protocol(method: str, model: str, dataset: DataSet, asked: Asked) -> tuple[Protocol, tuple[str, ...]]:
    """The protocol with its changes, and the names of the fields that they changed."""
    row = protocol_of(method, dataset.name, asked.paper, task=dataset.task, model=model)
    mine = with_changes(row, asked.changes)
    if asked.names is not None:
        mine = replace(mine, names=OWN)
    return mine, tuple(changed(row, mine))


def _entrant(
    name: str, model: str | os.PathLike[str], pretrained: str | None, localizer: Localizer | OnnxLocalizer, official: bool,
    dataset: DataSet, own: str | os.PathLike[str] | None, protocol: Protocol, fields: tuple[str, ...],
) -> Entrant:  # fmt: skip
    subject = subject_of(localizer)
    check_size(subject, protocol, os.fspath(model))
    names = _names(protocol, dataset, own)
    # a text that the model cannot take is found now, not by the first picture
    if texts := [text for each in names for text in each]:
        localizer.encode_texts(texts)
    device = localizer.device.type if isinstance(localizer, Localizer) else localizer.session.names[0]
    return Entrant(
        name=name, model=os.fspath(model), pretrained=pretrained or "", official=official, localizer=localizer, subject=subject,
        protocol=protocol, changed=fields, names=names, judge=_judge(subject, protocol, dataset, names), device=device,
    )  # fmt: skip


def _names(protocol: Protocol, dataset: DataSet, own: str | os.PathLike[str] | None) -> Names:
    if own is not None:
        found = class_names.read(Path(own)).names
        if len(found) != len(dataset.classes):
            raise FastlocError(f"{own} must have a line for each of the {len(dataset.classes)} classes of {dataset.name}, got {len(found)}")
        # CLIPer's rule has no class at all ahead of the others
        return found if dataset.background or protocol.rule != "cliper" else (("background",), *found)
    return names_of(protocol, dataset) if protocol.task == "labels" else tuple((each,) for each in dataset.classes)


def _judge(subject: EngineSubject | FileSubject, protocol: Protocol, dataset: DataSet, names: Names) -> Judge[Any]:
    if protocol.task == "questions":
        return QuestionJudge(subject, protocol, dataset)
    return SegmentationJudge(subject, protocol, dataset, names)
