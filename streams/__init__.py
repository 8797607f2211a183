"""What to do, and in which order; never how to reach the world."""
