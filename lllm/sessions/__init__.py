"""The life of a session: it begins, is the current one, and ends, whatever happens."""
