"""Removes secrets and personal data from payloads before they are written."""
