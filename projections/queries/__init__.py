"""What is asked of the rows."""
