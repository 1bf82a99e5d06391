"""How rows follow the log, and are built anew."""
