"""Recording calls that are made with the clients of others' SDKs."""
