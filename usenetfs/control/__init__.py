"""The running daemon's interface: HTTP over a Unix socket, for the CLI and for scripts."""
