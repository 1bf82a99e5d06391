"""Tactics and agents: prompts, dialogs, calls of a model, tools and retries."""
