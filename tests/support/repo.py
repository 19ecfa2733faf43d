"""Paths of the repository and its parts."""

from pathlib import Path

from fastloc.embedded import SAMPLES as SAMPLES

REPO = Path(__file__).parents[2]
TESTS = REPO / "tests"
SUPPORT = TESTS / "support"
GOLDENS = TESTS / "goldens"
