"""One label a pixel, as papers make it: windows, thresholds, refinement."""
