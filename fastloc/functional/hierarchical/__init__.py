"""Hierarchical image towers as functions: stages of a shrinking grid, a pool, and what a method reads of them."""
