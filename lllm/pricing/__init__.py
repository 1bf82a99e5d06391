"""Prices model calls: validates their usage, looks up rates, and calculates costs."""
