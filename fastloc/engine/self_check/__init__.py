"""Self-check of PyTorch's engines: another plan for the same call."""
