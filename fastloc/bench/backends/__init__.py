"""fastloc's own contenders: every way to run the same pass."""
