"""Data sets on disk, one reader a layout."""
