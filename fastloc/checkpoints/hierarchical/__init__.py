"""Hierarchical image towers (FastViT, ConvNeXt, ViTamin, Swin): specs, tensors and their names in state dicts."""
