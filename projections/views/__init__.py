"""lllm's own views: sessions, tags, costs and calls."""
