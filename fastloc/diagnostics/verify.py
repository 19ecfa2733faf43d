"""Verification of an exported file on this device: it runs the file's golden inputs and compares every output.

The expected outputs come from PyTorch in float32, before the export, and travel in the file, so its recipient needs nothing else. Silent
errors (a fused attention in half precision, a provider that mixes the pictures of a batch) are found here, on the device where they occur.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloc._version import __version__
from fastloc.errors import FastlocError, ModelError, PlanError
from fastloc.onnx_file import header as onnx_header
from fastloc.onnx_file.golden import TOLERANCES, Golden, OutputComparison, Sample, compare, failures, picture
from fastloc.onnx_file.manifest import KEY, Manifest
from fastloc.onnx_file.text_manifest import KEY as TEXT_KEY
from fastloc.runtime.fastest import Session
from fastloc.runtime.open_session import open_session
from fastloc.runtime.second_session import plain_session
from fastloc.utils.schema import first_line

__all__ = ["Check", "Verdict", "judged", "verify"]

Array = NDArray[Any]
Outputs = dict[str, Array]
Run = Callable[[Mapping[str, Array]], Outputs]


@dataclass(frozen=True)
class Check:
    """A check besides the golden. `passed` is None if it could not run or does not apply to this file; `found` is the result or reason."""

    name: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Verdict:
    """The result of a verification.

    Attributes:
        rows: each output against the golden, see `fastloc.onnx_file.golden.OutputComparison`; none where the outputs cannot be compared at
            all
        checks: the checks besides the golden
        wrong: everything that is wrong, in words; a good file has none
        device: the processor or GPU that it ran on
        nodes: the number of nodes that each provider ran, by onnxruntime's names; empty if this onnxruntime does not report it
        providers: the requested providers that loaded, by fastloc's names
        choice: the measured ways to run it, for providers "fastest", else ""
        first_ms: the time of the first call, which may build, tune and allocate; later_ms: those of the calls after it. They are no
            benchmark: there is no warm-up, clocks are not fixed, and the input has the golden's size
    """

    path: Path
    manifest: Manifest
    rows: tuple[OutputComparison, ...]
    checks: tuple[Check, ...]
    wrong: tuple[str, ...]
    device: str
    providers: tuple[str, ...]
    nodes: Mapping[str, int]
    versions: Mapping[str, str]
    load_ms: float
    first_ms: float
    later_ms: tuple[float, ...]
    choice: str = ""

    @property
    def good(self) -> bool:
        return not self.wrong

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data for JSON."""
        golden = self.manifest.golden
        assert golden is not None
        return {
            "file": str(self.path),
            "good": self.good,
            "wrong": list(self.wrong),
            "outputs": [asdict(row) for row in self.rows],
            "tolerance": TOLERANCES[self.manifest.dtype],
            "checks": [asdict(check) for check in self.checks],
            "model": self.manifest.model.name,
            "method": self.manifest.recipe.name,
            "dtype": self.manifest.dtype,
            "spelling": self.manifest.spelling,
            "golden": {"batch": golden.batch, "size": list(golden.size), "texts": golden.texts},
            "device": self.device,
            "providers": list(self.providers),
            "choice": self.choice,
            "nodes": dict(self.nodes),
            "versions": dict(self.versions),
            "milliseconds": {"load": self.load_ms, "first": self.first_ms, "later": list(self.later_ms)},
        }


def verify(
    path: str | os.PathLike[str], providers: str | Sequence[str] = "auto", *, repeat: int = 1, self_check: bool = False, **options: Any
) -> Verdict:
    """Run the golden of a file on this device.

    Args:
        providers: as for `fastloc.OnnxLocalizer`.
        repeat: calls after the first one.
        self_check: compare with the same file in onnxruntime on the CPU without graph optimisations too, as the self-check of a localizer
            does. Where the golden disagrees and this plan agrees with it, the fault is the runtime's or the device's, not the file's.
        options: as for `fastloc.OnnxLocalizer`: allow_fallback, threads, cache …

    Raises:
        ModelError: the file cannot be used, or has no golden. PlanError: a provider is missing or does not take every node.
    """
    if repeat < 1:
        raise PlanError(f"repeat must be 1 or more, got {repeat}; the calls after the first check that it answers the same")
    manifest = _manifest(path)
    began = time.perf_counter()
    # dynamic files run with the golden's batch and with one picture: an engine must be built for both
    session = open_session(path, providers, **({"profiles": _profiles(manifest)} | options))
    load_ms = _since(began)
    feeds = manifest.golden_inputs()
    first, first_ms = _timed(session.run, feeds)
    later = [_timed(session.run, feeds) for _ in range(repeat)]
    rows, wrong = judged(_golden(manifest), first, manifest.dtype, manifest.recipe.readout.score)
    checks = [_same(manifest, first, [outputs for outputs, _ in later]), _independent(manifest, feeds, first, session.run)]
    if self_check:
        checks.append(_another_plan(path, manifest, feeds, first, options.get("threads")))
    wrong += [f"{check.name}: {check.found}" for check in checks if check.passed is False]
    return Verdict(
        path=Path(path), manifest=manifest, rows=tuple(rows), checks=tuple(checks), wrong=tuple(wrong), device=session.device(),
        providers=session.names, nodes=_nodes(session), versions=_versions(session, manifest),
        load_ms=load_ms, first_ms=first_ms, later_ms=tuple(each for _, each in later),
        choice=str(session.choice or ""),
    )  # fmt: skip


def judged(golden: Golden, outputs: Mapping[str, Array], dtype: str, score: str = "cosine") -> tuple[list[OutputComparison], list[str]]:
    """The comparison of outputs with the golden, and every fault in words."""
    try:
        rows = compare(golden, outputs)
    except ModelError as error:
        # a missing output, another shape, NaN: no comparison is possible, but each is a fault
        return [], [str(error)]
    return rows, failures(rows, dtype, score)


def _manifest(path: str | os.PathLike[str]) -> Manifest:
    header = onnx_header.read(path)
    if TEXT_KEY in header.metadata and KEY not in header.metadata:
        raise ModelError(f"{path} must be a file with a golden, got a text tower; verify the file that it belongs to")
    manifest = header.manifest()
    golden = manifest.golden
    if golden is None:
        raise ModelError(f"{path} must have a golden to compare with, got none; export it again with this fastloc")
    if manifest.dtype not in TOLERANCES:
        raise ModelError(f"{path}: its metadata names dtype {manifest.dtype!r}, for which no tolerance is known")
    if manifest.input.batch not in (None, golden.batch):
        raise ModelError(
            f"{path}: its golden has {golden.batch} pictures, and the file takes {manifest.input.batch}: its metadata is damaged"
        )
    return manifest


def _golden(manifest: Manifest) -> Golden:
    assert manifest.golden is not None
    return manifest.golden


def _profiles(manifest: Manifest) -> dict[str, tuple[Any, Any, Any]]:
    """The sizes that a compiled engine is built for: the golden's, and one picture alone."""
    golden = _golden(manifest)
    found: dict[str, tuple[Any, Any, Any]] = {}
    if manifest.input.batch is None:
        found["batch"] = (1, golden.batch, golden.batch)
    if manifest.input.size is None:
        found["size"] = (golden.size,) * 3
    if not manifest.texts.baked and manifest.texts.count is None:
        found["texts"] = (golden.texts,) * 3
    return found


def _timed(run: Run, feeds: Mapping[str, Array]) -> tuple[Outputs, float]:
    began = time.perf_counter()
    return run(feeds), _since(began)


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3


def _same(manifest: Manifest, first: Outputs, later: Sequence[Outputs]) -> Check:
    """Check that later calls give the same outputs as the first."""
    name = f"{len(later)} more calls" if len(later) > 1 else "a second call"
    if all(np.array_equal(first[output], each[output]) for each in later for output in first):
        return Check(name, True, "the same bits")
    if not all(np.isfinite(array).all() for array in first.values()):
        return Check(name, None, "not compared: the first one gave NaN or infinite numbers")
    reference = _as_golden(manifest, first)
    # the same input on the same device: in every dtype, a difference beyond another order of rounding is a fault
    found = [judged(reference, each, "float32", manifest.recipe.readout.score) for each in later]
    if wrong := next((wrong for _, wrong in found if wrong), None):
        return Check(name, False, "; ".join(wrong))
    most = max(row.max_error or 0.0 for rows, _ in found for row in rows)
    return Check(name, True, f"the same within {most:.1e}")


def _independent(manifest: Manifest, feeds: Mapping[str, Array], first: Outputs, run: Run) -> Check:
    """Check that the first picture's outputs do not depend on the other pictures of the batch."""
    name, golden = "a picture alone and in a batch", _golden(manifest)
    if manifest.input.batch == 1:
        return Check(name, None, "not for this file, which takes one picture")
    if golden.batch == 1 or not all(np.isfinite(array).all() for array in first.values()):
        return Check(name, None, "not compared: the golden has one picture" if golden.batch == 1 else "not compared: NaN")
    entry = manifest.input.name
    try:
        other = run({**feeds, entry: feeds[entry][:1] if manifest.input.batch is None else _others(manifest, golden)})
    except PlanError as error:
        # an engine built with other profiles may take only the golden's shapes
        return Check(name, None, f"not compared: {error}")
    reference = _as_golden(manifest, {output: array[:1] for output, array in first.items()})
    rows, wrong = judged(reference, {output: array[:1] for output, array in other.items()}, manifest.dtype, manifest.recipe.readout.score)
    most = max((row.max_error or 0.0 for row in rows), default=0.0)
    return Check(name, not wrong, "; ".join(wrong) or ("the same bits" if not most else f"the same within {most:.1e}"))


def _another_plan(
    path: str | os.PathLike[str], manifest: Manifest, feeds: Mapping[str, Array], first: Outputs, threads: int | None
) -> Check:
    """Check that the plan in use and that of a self-check agree, whatever the golden says."""
    name = "onnxruntime on the CPU, unoptimised"
    try:
        other = plain_session(path, threads).run(feeds)
    except FastlocError as error:
        # a compiled engine, or a type that the CPU has no node for
        return Check(name, None, f"not compared: {first_line(error)}")
    if not all(np.isfinite(array).all() for array in other.values()):
        return Check(name, None, "not compared: it gave NaN or infinite numbers")
    rows, wrong = judged(_as_golden(manifest, other), first, manifest.dtype, manifest.recipe.readout.score)
    if not wrong:
        most = max((row.max_error or 0.0 for row in rows), default=0.0)
        return Check(name, True, "the same bits" if not most else f"the same within {most:.1e}")
    right = not judged(_golden(manifest), other, manifest.dtype, manifest.recipe.readout.score)[1]
    where = "that plan agrees with the golden: the fault is not the file's" if right else "that plan does not agree with the golden either"
    return Check(name, False, f"{'; '.join(wrong)}; {where}")


def _others(manifest: Manifest, golden: Golden) -> Array:
    """The golden's batch with other pictures after the first."""
    shown = golden.pictures()
    for index in range(1, golden.batch):
        # seeds that no picture of the golden has
        shown[index] = picture(golden.seed + golden.batch + index, golden.size)
    return manifest.input.laid_out(shown, manifest.model)


def _as_golden(manifest: Manifest, outputs: Outputs) -> Golden:
    """The outputs as a golden for later comparisons."""
    return replace(_golden(manifest), outputs={name: Sample.take(array) for name, array in outputs.items()})


def _nodes(session: Session) -> dict[str, int]:
    return dict(Counter(node.provider for node in session.placement().nodes).most_common()) if session.recorded else {}


def _versions(session: Session, manifest: Manifest) -> dict[str, str]:
    found = {"fastloc": __version__, "file": manifest.version, **session.versions(), "numpy": np.__version__}
    return found | {"python": platform.python_version()}
