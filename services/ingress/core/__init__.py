"""What a request may ask for and what its answer says; no I/O."""
