"""The store over the project's REST interface."""

from __future__ import annotations

from worker.adapters.supabase_store.store import SupabaseStore, connect_store

__all__ = ["SupabaseStore", "connect_store"]
