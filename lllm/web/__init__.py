"""The web pages of a store: sessions, costs, calls and the store's state, in a browser.

The server reads an existing store, and only this machine can reach it. It needs the extra `web`.
"""
