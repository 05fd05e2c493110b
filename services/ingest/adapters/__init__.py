"""What ingest talks to: its memory in Postgres, and the bucket."""
