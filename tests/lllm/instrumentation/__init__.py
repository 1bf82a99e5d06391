"""`lllm.capture`, with the official SDKs against a server on this machine."""
