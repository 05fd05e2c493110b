"""Why the hasher exists: which digests, computing them, and what they say about an upload; no I/O."""
