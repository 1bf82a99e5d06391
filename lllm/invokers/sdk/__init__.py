"""Calling a model by a provider's own SDK."""
