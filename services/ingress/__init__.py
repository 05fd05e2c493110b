"""The HTTP door: streams bytes into buckets, publishes requests, and shows what the others have recorded.

Consumes nothing yet; produces nothing yet; keeps nothing yet.
"""
