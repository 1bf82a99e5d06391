"""Verifies, repairs, backs up and erases logs, and proves what is in them."""
