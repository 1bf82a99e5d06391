"""Locks, threads and forks: any number of writers can share a log without losing an event."""
