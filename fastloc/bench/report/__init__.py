"""Reports of the rows: tables in a terminal, and plots."""
