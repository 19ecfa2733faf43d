"""Export of text towers with their tokenizers."""
