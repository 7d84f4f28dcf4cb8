"""What programs have written and no server has yet: its blocks, when they may change, when they go.

``blocks.py`` owns them; ``hot_blocks.py`` is one of them in memory; ``steady.py`` and
``stillness.py`` say when writers wait; ``freeing.py`` gives back the disk.
"""
