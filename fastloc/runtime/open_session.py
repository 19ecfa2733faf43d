"""The session of a file on the providers that are asked for: onnxruntime's, OpenVINO's own runtime, or the fastest of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fastloc.errors import PlanError
from fastloc.runtime.fastest import FASTEST, Session, fastest
from fastloc.runtime.openvino_session import OpenvinoSession
from fastloc.runtime.providers import OPENVINO
from fastloc.runtime.session import OnnxSession
from fastloc.runtime.shape_profiles import Profiles

__all__ = ["open_session"]


def open_session(
    path: str | os.PathLike[str],
    providers: str | Sequence[str] = "auto",
    *,
    allow_fallback: bool = False,
    threads: int | None = None,
    cuda_graph: bool = False,
    cache: str | os.PathLike[str] | None = None,
    profiles: Profiles | None = None,
    options: Mapping[str, Any] | None = None,
) -> Session:
    """Load a file; arguments and errors as for `fastloc.OnnxLocalizer`."""
    if providers == FASTEST:
        if options or cuda_graph:
            raise PlanError(f"options and cuda_graph must be left out with providers={FASTEST!r}: they are of one provider; name it")
        shared: dict[str, Any] = {"allow_fallback": allow_fallback, "cache": cache, "profiles": profiles}
        return fastest(path, lambda name, count: open_session(path, name, threads=count, **shared), threads)
    if providers in (OPENVINO, [OPENVINO], (OPENVINO,)):
        if cuda_graph:
            raise PlanError(f"cuda_graph must be False for provider {OPENVINO!r}, got True; it is for providers cuda, tensorrt")
        return OpenvinoSession(path, threads=threads, cache=cache, options=options)
    return OnnxSession(
        path, providers, allow_fallback=allow_fallback, threads=threads, cuda_graph=cuda_graph, cache=cache, profiles=profiles,
        options=options,
    )  # fmt: skip
