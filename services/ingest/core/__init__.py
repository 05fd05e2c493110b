"""Parse notifications, decide what they change and compare listings in a sweep; no I/O."""
