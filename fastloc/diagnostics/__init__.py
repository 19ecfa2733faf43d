"""Checks of exported files and of the machine: verify, inspect and doctor. Without torch."""
