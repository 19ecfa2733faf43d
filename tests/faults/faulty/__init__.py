"""Faults planted into the file layer, and the work that they meet."""
