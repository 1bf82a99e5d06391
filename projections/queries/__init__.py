"""Queries the rows of views.

filters              what users can filter by, without SQL
session_filter_sql   turns a filter of sessions into FROM and WHERE: here a tag becomes SQL
inherited_tags_sql   the same for child sessions, which inherit the tags of their root
call_filter_sql      the same for attempts to call a model
selection            the FROM and WHERE, to which queries add joins and conditions
facet_numbers        looks up the number of a tag or another facet
cursor_sql           turns the cursor of a list's next page into SQL
sessions, session_lists, running_sessions, session_tags, calls, call_statistics, costs, cost_groups,
erasures             the queries, with a SELECT for each
selected_sessions    finds the session of an event while the log is read
load_session         reads the events of one session, found by its row
merkle               reads the Merkle tree of the log
search_query, search parse a search, and find messages by their words
rows                 reads rows by key and checks them
"""
