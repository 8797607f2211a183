"""Hypothesis as this directory wants it: no deadline, since the machine may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("promises", deadline=None, max_examples=100)
settings.load_profile("promises")
