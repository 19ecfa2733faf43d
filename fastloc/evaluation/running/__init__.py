"""Runs over a set: read ahead, chunk by chunk, kept and gone on with."""
