"""`fastloc evaluate` and its parts."""
