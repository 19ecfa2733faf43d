"""Results of localisation: similarities, points, boxes and masks of one picture. Without torch."""
