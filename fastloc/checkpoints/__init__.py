"""Checkpoints: specifications of towers, their weights as tensors, text encoders and trained projections."""
