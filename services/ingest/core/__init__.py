"""Why ingest exists: notices, what they change, and what a sweep finds; no I/O."""
