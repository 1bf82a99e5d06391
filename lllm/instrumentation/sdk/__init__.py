"""Patches the clients of OpenAI's and Anthropic's SDKs, so that their calls are recorded."""
