"""Datasets, and the conversion of bytes to their rows."""
