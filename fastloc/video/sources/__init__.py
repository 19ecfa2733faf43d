"""Sources of frames: files, cameras, network streams and iterables."""
