"""The store: one log of events, and everything that can be asked of it."""
