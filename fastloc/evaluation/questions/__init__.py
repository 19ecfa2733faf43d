"""One map a text, and its measures."""
