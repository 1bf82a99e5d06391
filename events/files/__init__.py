"""How lllm opens and copies the files of a store, and who may read them."""
