"""Recorded answers in the form in which a provider sends them, so that its SDK can read them again.

One module a dialect, each the inverse of the reader in `lllm.invokers.dialects`: what it builds of
an answer is read as that answer again, whole or as a stream.
"""
