"""How the programs pace what they send and read, and how they take leave: the same everywhere."""

HIGH_WATER_BYTES = 1024 * 1024
"""A stream's writer waits while so much is not acknowledged."""
READ_AHEAD_BYTES = 256 * 1024
"""So much, and up to twice as much, waits in memory for whoever reads a stream, beside the window
that the peer may use (protocol/quic.py)."""
CHUNK_BYTES = 64 * 1024
"""What is read or written at a time."""
GAVE_UP = 0x1
"""The error code of a connection that did not come to its end in good order."""
CLOSE_REPEATS = 8
"""How often a CONNECTION_CLOSE is sent again: nobody acknowledges it, and who never gets it waits
for its idle timeout. Where a seventh of all datagrams is lost, three are in one case of 400."""
CLOSE_LINGER_S = 0.05
"""How long an endpoint stays for that."""
CLOSING_S = 60.0
"""Longer than a closing period (RFC 9000, 10.2). They exist to answer stragglers; a relay that ends
will not be there to do so, and to have them over makes aioquic finish its qlog."""
