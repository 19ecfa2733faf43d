"""Files, hashing, caches, hardware and the console: what any program needs. Nothing here knows of CLIP, and nothing needs torch."""
