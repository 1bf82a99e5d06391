"""Locks, threads and forks: how any number of writers share a log without losing an event."""
