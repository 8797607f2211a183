"""The Edge Functions as a project serves them."""
