"""What a call of a model costs, and who says so."""
