"""Merges the two notification lanes into one fact per object change.

Consumes `minio.live`, `minio.safe` and `sweeps.requested.v1`; publishes `objects.changed.v1` and `sweeps.completed.v1`;
stores `ingest.objects`.
"""
