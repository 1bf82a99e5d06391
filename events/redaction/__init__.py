"""What is taken out of payloads before they are written."""
