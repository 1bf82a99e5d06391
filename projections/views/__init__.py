"""The views that lllm itself needs, as sessions, tags, costs, calls and messages."""
