"""How lllm opens and copies the files of a store, and which permissions they get."""
