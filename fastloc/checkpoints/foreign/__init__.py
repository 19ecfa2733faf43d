"""Checkpoints in other layouts than open_clip's: transformers' folders, OpenAI's archives, and the files of PE and MobileCLIP."""
