"""Tactics and agents: prompts, dialogs, model calls, tools and retries."""
