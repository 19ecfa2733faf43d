"""Peaks, regions, masks and labels of heatmaps, from the patch grid to the pixel, without the maps."""
