"""One file per command; the docstring of each is its help."""
