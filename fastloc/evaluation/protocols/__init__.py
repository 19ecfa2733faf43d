"""Protocols of papers as rows, class names and published figures."""
