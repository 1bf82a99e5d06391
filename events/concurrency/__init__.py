"""Locks, threads and forks: lets any number of writers share a log without losing an event."""
