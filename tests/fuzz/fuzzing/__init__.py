"""Fuzzing of every parser of untrusted bytes: a table of targets, mutators by structure, and one child process for each target."""
