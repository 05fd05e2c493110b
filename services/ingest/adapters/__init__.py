"""Adapters of ingest: its known objects in Postgres and the object store."""
