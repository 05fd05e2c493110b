"""The stack without Docker: real Kafka, MinIO, PostgreSQL and our services under one supervisor."""
