"""`lllm doctor`: checks the health of a store, and says what to do."""
