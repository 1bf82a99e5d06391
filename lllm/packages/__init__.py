"""Packages of tactics: lllm.toml, loading, and finding a tactic by its name."""
