"""The filesystem: FUSE operations, and beside them the semantics of names and of file contents.

Only this package imports pyfuse3.
"""
