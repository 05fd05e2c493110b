"""Code that two or more services use: events, topics, bus, storage, leased work, settings, logs, health, errors."""
