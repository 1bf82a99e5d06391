"""Calls models with the providers' own SDKs."""
