"""Records the calls that a program makes with the clients of other SDKs."""
