"""`python -m fastloc.bench`: the cost of each method on this machine, its error, and its distance from the limit."""
