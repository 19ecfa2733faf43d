"""Largest sizes and counts of an exported file's metadata: beyond them lies no model, and a picture would take gigabytes.

They are the ranges of the manifest's schema, checked as it is read, before anything of these sizes is made.
"""

__all__ = ["BATCH", "CONTEXT", "EMBED", "NUMBERS", "PATCH", "PIXELS", "SIDE", "TEXTS"]

# pixels of a side, of a patch's side, and of all pictures of one call
SIDE, PATCH, PIXELS = 1 << 14, 1 << 10, 1 << 27
# pictures a call, texts a call, and the numbers of one embedding and of all texts together
BATCH, TEXTS, EMBED, NUMBERS = 1 << 12, 1 << 16, 1 << 16, 1 << 28
# tokens of a text
CONTEXT = 1 << 12
