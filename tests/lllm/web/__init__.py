"""Tests of the web page, over HTTP and in a real browser."""
