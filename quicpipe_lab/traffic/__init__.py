"""What the frames of a capture are: datagrams, QUIC headers, journeys from hop to hop. Pure."""
