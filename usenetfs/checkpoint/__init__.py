"""The chain: how the index reaches other machines, and how it comes back from the servers.

Formats, pure: ``changeset`` (SQLite's changeset encoding), ``documents`` (compression and pieces),
``record`` (what a checkpoint says), ``digest``. ``docs/format.md`` has every byte.

The writer's way: ``draft`` (what would be said; ``holdback`` says what waits) → ``compose`` →
``publish``, over ``document_sender`` and ``sending``. The reader's: ``search`` → ``chain`` →
``replay``, over ``articles``; ``following`` for who is here already. ``key_records``: both ways.
"""
