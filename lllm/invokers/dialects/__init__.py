"""Converts the JSON of models' APIs: requests, answers, and streamed answers."""
