"""Clients of the outside systems that the console uses."""
