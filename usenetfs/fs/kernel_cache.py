"""What the kernel keeps of the mount, and must forget when something changed behind its back.

The kernel may keep names and attributes for as long as it likes (``operations.TIMEOUT``), because
all changes come through it. Those that do not (an import, ``rm`` or ``mv`` through the daemon; what
another machine wrote, in a mount that follows) are announced here.
Nothing happens while nothing is mounted, nor for what the kernel has never heard of.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pyfuse3

from usenetfs.fs.live_inodes import LiveInodes
from usenetfs.types import InodeId


class KernelCache:
    """``mounted`` is set by whoever mounts."""

    def __init__(self, inodes: LiveInodes) -> None:
        self._inodes = inodes
        self.mounted = False

    def __repr__(self) -> str:
        return f"<KernelCache {'mounted' if self.mounted else 'not mounted'}>"

    def name_changed(self, parent: InodeId, name: bytes) -> None:
        """A name leads elsewhere than before, or nowhere, or somewhere at last.

        Told by a thread of pyfuse3's: the kernel may make it wait for requests of ours.
        """
        if self.mounted and self._inodes.known(parent):
            pyfuse3.invalidate_entry_async(
                pyfuse3.InodeT(parent), pyfuse3.FileNameT(name), ignore_enoent=True
            )
            self.attributes_changed(parent)

    def content_changed(self, inodes: Iterable[InodeId]) -> None:
        """Bytes of files. For a thread: the kernel may wait for reads that we must answer."""
        for inode in inodes:
            if self.mounted:
                with contextlib.suppress(OSError):  # forgotten already
                    pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=False)

    def attributes_changed(self, inode: InodeId) -> None:
        """Attributes alone: for these the kernel waits for nobody."""
        if self.mounted and self._inodes.known(inode):
            with contextlib.suppress(OSError):  # forgotten already
                pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)
