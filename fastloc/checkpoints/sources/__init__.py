"""Descriptions and the listing of models by name."""
