"""The tables of rows in SQLite: `tables`, and `search_index` for words."""
