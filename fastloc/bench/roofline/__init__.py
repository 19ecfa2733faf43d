"""Bounds of a pass: operations, bytes, and the ceilings of the machine."""
