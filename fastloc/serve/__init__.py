"""A service that locates texts in pictures for other programs, over HTTP."""
