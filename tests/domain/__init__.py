"""Decisions: by example, and by property where a promise holds for every value."""
