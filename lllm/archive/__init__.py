"""`lllm archive`: old sessions leave a store into compressed files."""
