"""Replays: a recorded session runs again, answered from the log.

No model is called, no tool runs, and nothing is waited for. What the code asks now is compared with
what it asked then, place by place, so that every recorded session is a test of today's code.
"""
