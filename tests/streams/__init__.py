"""Pipelines on small fakes, in virtual time."""
