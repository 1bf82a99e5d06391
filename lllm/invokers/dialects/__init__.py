"""The JSON that models' APIs speak: requests, answers, and answers in pieces."""
