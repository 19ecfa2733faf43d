"""Pictures, their geometry in a model's input, heatmaps on them, and drawing. Without torch."""
