"""Keeps the log in a PostgreSQL database that several machines write to; see `backend`."""
