"""Any value of a user's program as JSON, and back again."""
