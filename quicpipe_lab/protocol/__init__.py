"""The Quicpipe protocol, sans-IO: bytes, addresses and the time go in; bytes, addresses, the next
wake-up and events come out. Nothing here opens a socket, reads a clock or draws randomness."""
