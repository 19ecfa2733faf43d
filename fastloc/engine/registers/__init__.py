"""Test-time registers of a model: the search for its register neurons, and the choice of those that a method uses."""
