"""Files, hashing, caches, hardware and the console: utilities that any program needs. Nothing here depends on CLIP or torch."""
