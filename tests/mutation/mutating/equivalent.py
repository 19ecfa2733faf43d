"""Mutants that change nothing that can be seen: (target, mutant) -> the reason."""

from __future__ import annotations

__all__ = ["EQUIVALENT"]

EQUIVALENT: dict[tuple[str, str], str] = {}
