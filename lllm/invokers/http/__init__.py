"""What providers say over HTTP beside their answers: errors, limits, streams of events."""
