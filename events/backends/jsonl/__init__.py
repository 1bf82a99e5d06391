"""The log in a folder of JSONL files."""
