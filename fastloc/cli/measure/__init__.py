"""Commands that measure something on a model and write it to a file that other commands take."""
