"""The version of fastloc, stated once."""

__version__ = "0.2.0"
