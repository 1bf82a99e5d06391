"""The views that lllm needs itself: sessions, tags, costs and calls."""
