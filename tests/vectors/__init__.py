"""Golden vectors: bytes that every later version must still read, and mostly still write."""
