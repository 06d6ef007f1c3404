"""Settings of all tests."""

from hypothesis import settings

# How long an example takes says more about the machine, which may be busy, than about the code.
settings.register_profile("halflife", deadline=None)
settings.load_profile("halflife")
