"""Small image towers of every family that fastloc runs, those that the GPU script runs too."""

from gpu_parts.families import NAMES, PATCH, spec, tower, with_read

__all__ = ["NAMES", "PATCH", "spec", "tower", "with_read"]
