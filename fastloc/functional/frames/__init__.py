"""Camera frames on any device: their formats, and the patch embedding's operand."""
