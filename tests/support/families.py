"""Small image towers of every family that fastloc runs, those that the GPU script runs too."""

from gpu_parts.families import EMBED, NAMES, PATCH, spec, tower, with_read

__all__ = ["EMBED", "NAMES", "PATCH", "spec", "tower", "with_read"]
