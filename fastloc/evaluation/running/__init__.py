"""Runs over a set: read ahead, judged chunk by chunk, stored and continued."""
