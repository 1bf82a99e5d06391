"""Builds session objects from events."""
