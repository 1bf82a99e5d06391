"""What there is to type: the commands and their options."""
