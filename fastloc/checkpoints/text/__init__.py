"""Parts of text towers: their cut, layers that several share, transformers' towers, and tokenizers from a folder."""
