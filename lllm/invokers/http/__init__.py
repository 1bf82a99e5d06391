"""Reads providers' HTTP answers: errors, waits, event streams."""
