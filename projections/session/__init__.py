"""A session made of its events."""
