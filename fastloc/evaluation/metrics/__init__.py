"""Figures of rows, with intervals over pictures."""
