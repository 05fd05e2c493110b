"""What the hasher talks to: its ledger in Postgres, and the objects."""
