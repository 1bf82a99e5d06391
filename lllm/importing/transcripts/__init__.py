"""Imports the transcripts that coding agents keep of their sessions, such as Claude Code's."""
