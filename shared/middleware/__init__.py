"""Middleware between broker and handlers.

Order from the outside: log context, dead letter, retry; the envelope for published events.
"""
