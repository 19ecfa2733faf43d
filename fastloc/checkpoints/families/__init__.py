"""Rows of the image towers that others name."""
