"""The ``usenetfs`` command.

``app`` lists the commands; ``*_commands`` and ``*_app`` declare their arguments and help, and
``commands/`` holds what they do. Heavy imports are local to the functions that need them:
``usenetfs --help`` and ``usenetfs status`` must feel instant.
"""
