"""POSIX semantics of the mount, call by call and errno by errno, through the kernel."""
