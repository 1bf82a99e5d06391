"""Reads providers' HTTP answers: errors, rate limits, event streams."""
