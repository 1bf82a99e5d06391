"""Patches the clients of SDKs, so that their calls are recorded."""
