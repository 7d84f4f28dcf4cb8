"""Configuration: the five sources, the settings they make, the directories, and the vault.

This package is the only reader of configuration files and of ``USENETFS_`` variables; everything
else receives plain values. Importing it costs nothing: pydantic is loaded by ``models`` and
``loader``, cryptography by ``vault``.
"""
