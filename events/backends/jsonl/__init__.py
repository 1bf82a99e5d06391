"""A log stored as JSONL files in a folder."""
