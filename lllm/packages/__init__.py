"""Packages of tactics: reads lllm.toml, loads tactics, and finds them by name."""
