"""Queries the rows of views.

filters             what is asked for; knows no SQL
session_selection   a filter of sessions as FROM and WHERE: here a tag becomes SQL
call_selection      the same for attempts to call a model
sessions, session_tags, calls, costs, cost_groups   the questions, each a SELECT of its own
selected_sessions   whose event is it, for whoever walks the log
load_session        one session's events, found by its row
rows                rows by key, checked
"""
