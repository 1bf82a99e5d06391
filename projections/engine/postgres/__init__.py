"""The rows of views in PostgreSQL: `database` has the connections, `tables` the tables."""
