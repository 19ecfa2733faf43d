"""Engines of TensorRT and TensorRT-RTX, and their checks."""
