"""Adapters of the hasher: its ledger in Postgres and the object store."""
