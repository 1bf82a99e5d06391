"""The web page of a store: sessions, costs, calls and the store itself, in a browser.

It is served from the store that exists, on this machine only. It needs the extra `web`.
"""
