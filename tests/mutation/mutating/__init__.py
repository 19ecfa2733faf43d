"""Mutation testing: mutants of a module, and campaigns that run its tests on them."""
