"""Attacks on a stack of our own, on real servers: what an attacker asks for, and what must not come of it."""

from tests.support.serving import stopped_at_the_end, system, users

__all__ = ["stopped_at_the_end", "system", "users"]
