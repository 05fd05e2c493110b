"""Choose digests, compute them and compare them with what the uploader declared; no I/O."""
