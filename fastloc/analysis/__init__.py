"""Views into a model: every method side by side, blocks one by one, and texts by relevance."""
