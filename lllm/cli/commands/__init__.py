"""The commands of `lllm` and their options."""
