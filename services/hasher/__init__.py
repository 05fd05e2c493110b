"""Computes the digests of every stored version once.

Consumes `objects.changed.v1`; publishes `objects.hashed.v1`; stores `hasher.digests`.
"""
