"""Reads spans by the conventions of those who make them; one file for each convention."""

from lllm.importing.otlp.conventions.read_span import read_span

__all__ = ["read_span"]
