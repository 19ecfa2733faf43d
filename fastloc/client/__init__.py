"""Clients of a fastloc service: the call of a localizer, over HTTP."""
