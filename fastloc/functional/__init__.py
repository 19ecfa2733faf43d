"""Pure functions of tensors: towers, attention, local paths, relevance, read-outs and resizing."""
