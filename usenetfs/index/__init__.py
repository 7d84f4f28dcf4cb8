"""The index: SQLite through apsw, and nothing but. See index.py for what others hold."""
