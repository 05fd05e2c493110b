"""The outside systems, as the console talks to them."""
