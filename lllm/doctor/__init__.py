"""`lllm doctor`: how a store is, and what to do."""
