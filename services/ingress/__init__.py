"""The HTTP door: streams bytes into buckets, publishes requests, and shows what the others have recorded.

Consumes `objects.changed.v1`, `objects.hashed.v1`, `sweeps.completed.v1`, `dead-letters.settled.v1`, and the dead
letters of the others, `minio.live.ingest.dlq`, `minio.safe.ingest.dlq`, `sweeps.requested.v1.ingest.dlq` and
`objects.changed.v1.hasher.dlq`; produces `sweeps.requested.v1`; keeps `ingress.facts`, `ingress.tokens` and
`ingress.webhooks`.
"""
