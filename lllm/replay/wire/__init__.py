"""Builds recorded answers as a provider sends them, so that the provider's SDK can read them again.

There is one module for each dialect, the inverse of its reader in `lllm.invokers.dialects`. If the
reader reads what the module built, as one body or as a stream, it gets the same answer again.
"""
