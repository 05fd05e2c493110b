"""Access to the input bucket, the tables and the output files."""
