"""Prints the results of commands: for people on a terminal, or as JSON or CSV."""
