"""In-memory implementations of broker, object store and work queue for tests."""
