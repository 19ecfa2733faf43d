"""Processes that are timed. Peers run in environments of their own: what stands in this folder imports no part of fastloc."""
