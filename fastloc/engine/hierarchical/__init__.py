"""The engine of hierarchical towers (FastViT, ConvNeXt, Swin)."""
