"""NNTP without input or output: octets in, events out, for both ends of a session.

``grammar`` says what the words are, ``client`` and ``server`` what may be said when. Nothing here
opens sockets, waits, or looks at a clock; whoever owns the socket owns the time.
"""
