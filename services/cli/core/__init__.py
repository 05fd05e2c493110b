"""Pure functions and values of the console, without I/O."""
