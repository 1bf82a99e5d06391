"""A log stored in an SQLite file."""
