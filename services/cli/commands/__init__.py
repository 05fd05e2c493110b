"""One module per command; the docstring of its function is its help."""
