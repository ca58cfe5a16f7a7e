"""Quicpipe in Python, and a laboratory for it: NATs, links and a relay on one machine."""
