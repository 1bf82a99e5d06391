"""Keeps the log in a replicated stream of NATS JetStream; see `backend`."""
