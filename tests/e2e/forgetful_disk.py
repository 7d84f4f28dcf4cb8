"""A disk whose power can be cut: what was not flushed to it is gone.

A process serves one file, the disk's image, through FUSE. Writes go to memory only; a flush (the
loop device turns each barrier of the filesystem above into an fsync of its file) moves them to the
real image. Ending the process is the power cut: the image has exactly what was flushed, everything
else is lost, and the filesystem above gets nothing but errors. A real disk with a volatile cache
may keep some of the rest; keeping nothing is the hardest case.

:class:`ForgetfulDisk` is the test's side: it makes the image, attaches an ext4 over it to a
directory, and cuts the power. Needs root, as the mounts of the tests do.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from scripts.world import wait_until

PAGE: Final = 4096
IMAGE: Final = b"disk.img"
INODE: Final = pyfuse3.InodeT(2)


class Image(pyfuse3.Operations):
    """The file ``disk.img``: reads see what was written, the real image what was flushed."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._unflushed: dict[int, bytes] = {}

    @property
    def unflushed(self) -> int:
        """Bytes that a power cut would lose now."""
        return len(self._unflushed) * PAGE

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_size = self._size
        kind = stat.S_IFDIR | 0o700 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o600
        entry.st_mode = pyfuse3.ModeT(kind)
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name != IMAGE:
            raise pyfuse3.FUSEError(2)
        return await self.getattr(INODE)

    async def open(
        self, inode: pyfuse3.InodeT, flags: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1), direct_io=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        end = min(off + size, self._size)
        first, last = off // PAGE, (end + PAGE - 1) // PAGE
        pages = (self._page(number) for number in range(first, last))
        return b"".join(pages)[off - first * PAGE : end - first * PAGE]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        for number in range(off // PAGE, (off + len(buf) + PAGE - 1) // PAGE):
            start = max(off, number * PAGE)
            end = min(off + len(buf), (number + 1) * PAGE)
            piece = buf[start - off : end - off]
            if len(piece) < PAGE:
                page = bytearray(self._page(number))
                page[start - number * PAGE : end - number * PAGE] = piece
                piece = bytes(page)
            self._unflushed[number] = piece
        return len(buf)

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        for number, page in self._unflushed.items():
            os.pwrite(self._descriptor, page, number * PAGE)
        self._unflushed.clear()

    def _page(self, number: int) -> bytes:
        page = self._unflushed.get(number)
        return os.pread(self._descriptor, PAGE, number * PAGE) if page is None else page


async def _serve(image: Image) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pyfuse3.main)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            print("ready", flush=True)
            async for _ in signals:
                print(image.unflushed, flush=True)
                os._exit(0)  # nothing is flushed, nothing is said good-bye to


def main(arguments: list[str]) -> None:
    """``python -m tests.e2e.forgetful_disk IMAGE MOUNTPOINT``; SIGTERM is the power cut."""
    path, mountpoint = arguments
    image = Image(os.open(path, os.O_RDWR))
    pyfuse3.init(image, mountpoint, {*pyfuse3.default_options, "fsname=forgetful"})
    trio.run(_serve, image)


class ForgetfulDisk:
    """An ext4 of ``size`` bytes, attached to ``place``; everything of it lies in ``folder``."""

    def __init__(self, folder: Path, place: Path, *, size: int) -> None:
        self.place = place
        self._image = folder / "disk.real"
        self._mountpoint = folder / "disk"
        self._process: subprocess.Popen[str] | None = None
        self._loop = ""
        self._mountpoint.mkdir()
        place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(size)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", self._image)

    def __repr__(self) -> str:
        return f"<ForgetfulDisk {self.place} {'attached' if self._loop else 'off'}>"

    def attach(self) -> None:
        """Power on: what was flushed is there again."""
        command = [sys.executable, "-m", "tests.e2e.forgetful_disk"]
        self._process = subprocess.Popen(
            [*command, str(self._image), str(self._mountpoint)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        image = self._mountpoint / os.fsdecode(IMAGE)
        self._loop = _run("losetup", "--find", "--show", image).strip()
        _run("mount", "-t", "ext4", self._loop, self.place)

    def cut_power(self) -> int:
        """From now on the disk answers nothing; returns the bytes that are lost with it.

        These are what the disk had and was not told to flush, and what the kernel had not even
        given to the disk.
        """
        process, self._process = self._process, None
        assert process is not None
        delayed = Path("/sys/fs/ext4", Path(self._loop).name, "delayed_allocation_blocks")
        in_kernel = int(delayed.read_text()) * PAGE if delayed.exists() else 0
        process.terminate()
        said, _ = process.communicate(timeout=30)
        return int(said) + in_kernel

    def detach(self) -> None:
        """Take the dead (or living) disk away from the system."""
        if self._loop:
            subprocess.run(["umount", "-l", self.place], check=False, capture_output=True)
            subprocess.run(["losetup", "-d", self._loop], check=False, capture_output=True)
            self._loop = ""
        if self._process is not None:
            self.cut_power()
        subprocess.run(["umount", "-l", self._mountpoint], check=False, capture_output=True)
        wait_until(lambda: not os.path.ismount(self._mountpoint), "the disk is gone", 30)


def _run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1:])
