"""Test-time registers of a model: the search for its register neurons, and which of them a method has."""
