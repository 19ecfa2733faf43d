"""Prompts, their templates, cleaning and tokens, and files of text embeddings. Without torch."""
