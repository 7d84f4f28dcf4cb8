"""The chain: how the index reaches other machines, and how it comes back from the servers.

Pure modules: ``changeset`` (SQLite's changeset encoding), ``documents`` (compression and pieces),
``record`` (what a checkpoint says), ``digest``. ``docs/format.md`` has every byte.
"""
