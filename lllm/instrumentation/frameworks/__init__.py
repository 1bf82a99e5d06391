"""Records the runs of agent frameworks by the hooks that these frameworks offer."""
