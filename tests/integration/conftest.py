"""One thing at a time on real servers; services that a module let run are stopped at its end."""

from tests.support.serving import stopped_at_the_end, system, users

__all__ = ["stopped_at_the_end", "system", "users"]
