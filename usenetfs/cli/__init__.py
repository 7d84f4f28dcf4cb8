"""The ``usenetfs`` command.

``app`` declares the commands, ``commands/`` holds what they do. Heavy imports are local to the
functions that need them: ``usenetfs --help`` and ``usenetfs status`` must feel instant.
"""
