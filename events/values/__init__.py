"""Converts any value of a user's program to JSON and back."""
