"""`python -m fastloc.bench`: what each method costs on this machine, how right it is, and how far from the limit."""
