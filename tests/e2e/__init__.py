"""The command line as a user drives it: processes, real mounts, real servers."""
