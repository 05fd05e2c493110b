"""What two or more services use: events, topics, the bus, storage, work, settings, logs, health, errors."""
