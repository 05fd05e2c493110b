"""Values and rules of requests and answers; no I/O."""
