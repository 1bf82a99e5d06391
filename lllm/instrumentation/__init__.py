"""Records the calls that a program makes with the clients of OpenAI's and Anthropic's SDKs."""
