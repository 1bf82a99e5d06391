"""Verifies, repairs and backs up logs."""
