"""Outputs of a stream: drawn frames, encoded files with sound, and JSON lines."""
