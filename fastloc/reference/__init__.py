"""A literal statement of every method, step by step; it shares nothing with the fast path but weights."""
