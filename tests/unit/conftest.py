"""Property tests under load: how long an example takes says nothing about it."""

from hypothesis import settings

settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
