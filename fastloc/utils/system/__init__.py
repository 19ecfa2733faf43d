"""The system below: files that change, unfinished files, and what runs out."""
