"""Real in-memory implementations and real servers for tests."""
