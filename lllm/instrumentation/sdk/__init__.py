"""Where an SDK is listened to, and what is heard there."""
