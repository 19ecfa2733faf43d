"""Pages about runs, alone and side by side."""
