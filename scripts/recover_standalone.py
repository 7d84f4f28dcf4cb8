#!/usr/bin/env python3
"""Fetch a usenetfs filesystem from a news server into a directory, without usenetfs.

One file, written from docs/format.md alone: the Python standard library, ``cryptography`` and
``zstandard``. Slow and simple on purpose: the promise that the data outlives its software.

    recover_standalone.py NAME DIRECTORY --host news.example.net --tls --user me
        --password-file FILE (--passphrase-file FILE | --recovery-key-file FILE)
The index is held in memory: about 2 GB for a million files.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import lzma
import os
import re
import socket
import ssl
import stat
import string
import struct
import sys
import unicodedata
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KIND_DATA, KIND_CHECKPOINT, KIND_SNAPSHOT, KIND_KEY, KIND_CHANGESET = 1, 3, 4, 5, 6
TOPS = ("com", "net", "org", "info", "biz", "local")
MISSING = (b"420", b"423", b"430", b"451")  # any other refusal says nothing of the article
Member = tuple[int, int, bytes, int, int, int, bytes]
Tables = dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]


class LostError(Exception):
    """Something is not there, or not what it should be."""


def hkdf(key: bytes, purpose: str, salt: bytes, size: int = 32) -> bytes:
    info = b"usenetfs/1 " + purpose.encode()
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(key)


def argon2(passphrase: str, salt: bytes, memory: int, iterations: int, lanes: int) -> bytes:
    kdf = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory)
    return kdf.derive(unicodedata.normalize("NFC", passphrase).encode())


def unlock(key_file: bytes, passphrase: str) -> bytes:
    document = json.loads(key_file)
    del document["checksum"]
    wrapped, kdf = document.pop("wrapped_key"), document["kdf"]
    texts = (kdf["salt"], wrapped["nonce"], wrapped["ciphertext"])
    salt, nonce, sealed = map(base64.b64decode, texts)
    key = argon2(passphrase, salt, kdf["memory_kib"], kdf["iterations"], kdf["lanes"])
    associated = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return AESGCM(key).decrypt(nonce, sealed, associated)


def parse_recovery_key(text: str) -> bytes:
    """The master key. Of the checks, the one over everything is enough."""
    text = re.sub(r"[\s\-‐-―−]", "", text).upper().translate(str.maketrans("OIL", "011"))
    number = 0
    for letter in (letter for at, letter in enumerate(text) if at % 5 < 4):
        number = number << 5 | "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(letter)
    master = (number >> 4).to_bytes(32, "big")
    if number & 15 != hashlib.sha256(b"usenetfs/1 recovery key" + master).digest()[0] >> 4:
        raise SystemExit("the recovery key is mistyped")
    return master


def message_id(key: bytes, context: bytes) -> str:
    pool = int.from_bytes(hmac.digest(key, context, "sha512"), "big")

    def below(bound: int) -> int:
        nonlocal pool
        pool, choice = divmod(pool, bound)
        return choice

    def word(alphabet: str, least: int, most: int) -> str:
        length = least + (below(most - least + 1) if most > least else 0)
        value, size = below(len(alphabet) ** length), len(alphabet)
        return "".join(alphabet[value // size**place % size] for place in range(length))

    small = string.ascii_lowercase + string.digits
    mixed = (string.ascii_uppercase + small, 16, 28)
    local = word(*((string.digits + "abcdef", 32, 32), (small, 19, 28), mixed, mixed)[below(4)])
    domain = word(small, 5, 12)
    top = TOPS[below(6)] if below(2) else word(string.ascii_lowercase, 3, 3)
    return f"<{local}@{domain}.{top}>"


class Server:
    """One connection. A miss is a LostError."""

    def __init__(self, options: argparse.Namespace) -> None:
        port = options.port or (563 if options.tls else 119)
        self._socket = socket.create_connection((options.host, port), timeout=60)
        if options.tls:
            context = ssl.create_default_context(cafile=options.ca_file)
            self._socket = context.wrap_socket(self._socket, server_hostname=options.host)
        self._file: IO[bytes] = self._socket.makefile("rb")
        self.ask("", b"20")
        if options.user:
            password = Path(options.password_file).read_text(encoding="utf-8").rstrip("\r\n")
            if self.ask(f"AUTHINFO USER {options.user}").startswith(b"381"):
                self.ask(f"AUTHINFO PASS {password}", b"281")

    def ask(self, command: str, *wanted: bytes) -> bytes:
        """The next line, after a command if there is one."""
        self._socket.sendall(command.encode() + b"\r\n" if command else b"")
        line = self._file.readline()
        if not line.startswith(wanted or line) or not line:
            raise SystemExit(f"the server says: {line!r}")
        return line

    def body(self, wanted: str) -> bytes:
        """The decoded yEnc data of an article."""
        reply = self.ask(f"BODY {wanted}", b"222", *MISSING)
        if not reply.startswith(b"222"):
            raise LostError(f"{wanted}: {reply.decode(errors='replace').strip()}")
        block = iter(lambda: self.ask(""), b".\r\n")
        lines = [line[1:] if line.startswith(b"..") else line for line in block]
        control = [n for n, line in enumerate(lines) if line.startswith((b"=yb", b"=yp", b"=ye"))]
        if len(control) != 3:
            raise LostError("an article is not yEnc")
        shift = bytes((value - 42) % 256 for value in range(256))
        encoded = b"".join(lines[control[1] + 1 : control[2]]).translate(None, b"\r\n")
        plain, *escaped = encoded.split(b"=")
        data = bytearray(plain.translate(shift))
        for piece in escaped:
            data.append((piece[0] - 106) % 256)
            data += piece[1:].translate(shift)
        crc = re.search(rb"pcrc32=([0-9a-fA-F]{8})", lines[control[2]])
        if crc is None or int(crc[1], 16) != zlib.crc32(data):
            raise LostError("an article is damaged")
        return bytes(data)


def opened(key: bytes, filesystem: bytes, place: int, kind: int, body: bytes) -> list[Member]:
    """The members: inode, block, hash, raw length, stored length, codec, stored bytes."""
    epoch, number = place >> 40, place & ((1 << 40) - 1)
    associated = struct.pack(">BB16sIQ", 1, kind, filesystem, epoch, number)
    try:
        cipher = AESGCM(hkdf(key, "article", body[:32]))
        plaintext = cipher.decrypt(bytes(12), body[32:], associated)
    except InvalidTag:
        raise LostError("an article does not open") from None
    version, found, count, _ = struct.unpack_from(">BBHI", plaintext)
    if version != 1 or found != kind:
        raise LostError("an article holds something else")
    rows, at = [], 8 + 41 * count
    for row in struct.iter_unpack(">QQ16sIIB", plaintext[8:at]):
        rows.append((*row, plaintext[at : at + row[4]]))
        at += row[4]
    return rows


def decompress(codec: int, stored: bytes, size: int) -> bytes:
    if codec == 1:
        stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
    elif codec == 2:
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
        stored = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(stored, size)
    elif codec == 3:
        stored = zlib.decompressobj().decompress(stored, size)
    if len(stored) != size:
        raise LostError("a block has the wrong length")
    return stored


class Filesystem:
    """Keys, and everything that is computed from them."""

    def __init__(self, server: Server, master: bytes, filesystem: bytes) -> None:
        self.server, self.id = server, filesystem
        self.data_key, self.digest_key = (hkdf(master, p, filesystem) for p in ("data", "digest"))
        self._chain, self._id_key = (hkdf(master, p, filesystem) for p in ("chain", "message-id"))
        self.lost: set[tuple[int, str]] = set()

    def checkpoint_id(self, number: int, copy: int) -> str:
        return message_id(self._chain, struct.pack(">BQB", 2, number, copy))

    def article_id(self, place: int, attempt: int) -> str:
        epoch, number = place >> 40, place & ((1 << 40) - 1)
        return message_id(self._id_key, struct.pack(">BIQI", 1, epoch, number, attempt))

    def open(self, wanted: str, place: int, kind: int) -> list[Member]:
        return opened(self.data_key, self.id, place, kind, self.server.body(wanted))

    def last(self) -> int:
        """The last checkpoint: fourfold steps, halving, and a look beyond for gaps."""
        low, found = -1, [0]
        while found:
            step = 1
            while self._exists(low + step):
                low, step = low + step, 4 * step
            high = low + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self._exists(middle) else (low, middle)
            found = [low + n for n in (17, 9, 5, 3, 2) if self._exists(low + n)]
            low = found[0] if found else low
        return low

    def _exists(self, number: int) -> bool:
        ids = (self.checkpoint_id(number, copy) for copy in range(2))
        return any(self.server.ask(f"STAT {i}", b"223", *MISSING)[:3] == b"223" for i in ids)

    def checkpoint(self, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A record, and the documents that came with it."""
        for copy in range(6):
            with suppress(LostError):
                rows = self.open(self.checkpoint_id(number, copy), number, KIND_CHECKPOINT)
                record, *parts = json.loads(rows[0][6]), *(row[6] for row in rows[1:])
                if record["version"] != 1 or record["schema"] != 2:
                    raise SystemExit("the filesystem is of a newer version than this program")
                names = [n for n in ("changeset", "snapshot") if record[n] and record[n]["inline"]]
                return record, dict(zip(names, parts, strict=True))
        raise LostError(f"checkpoint {number} is lost")

    def document(self, reference: dict[str, Any], stored: bytes | None, kind: int) -> bytes:
        if stored is None:
            pieces = enumerate(reference["articles"])
            stored = b"".join(self._piece(number, copies, kind) for number, copies in pieces)
        reader = zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True)
        raw: bytes = reader.read(reference["size"] + 1)
        if hashlib.sha256(raw).hexdigest() != reference["sha256"]:
            raise LostError("a document is damaged")
        return raw

    def _piece(self, number: int, copies: list[list[int]], kind: int) -> bytes:
        for place, attempt in copies:
            with suppress(LostError):
                row = self.open(self.article_id(place, attempt), place, kind)[0]
                if row[1] == number:
                    return row[6]
        raise LostError(f"piece {number} of a document is lost")

    def state(self, number: int) -> Tables:
        """The tables at a checkpoint. LostError; what is known to be lost is avoided next time."""
        changes: list[bytes] = []
        at, name = number, ""
        while name != "snapshot":
            record, inline = self.checkpoint(at)
            usable = record["snapshot"] and (at, "snapshot") not in self.lost
            name, kind = ("snapshot", KIND_SNAPSHOT) if usable else ("changeset", KIND_CHANGESET)
            if record[name] is None:
                raise LostError(f"there is no way to the state of checkpoint {number}")
            try:
                changes.append(self.document(record[name], inline.get(name), kind))
            except LostError:
                if name == "changeset" or not record["changeset"]:
                    raise
                self.lost.add((at, name))
                name = ""
                continue
            at = record["base"]
        tables: Tables = {}
        for changeset in reversed(changes):
            apply(tables, changeset)
        if digest_of(tables, self.digest_key) != self.checkpoint(number)[0]["digest"]:
            raise LostError(f"the state of checkpoint {number} does not come out as published")
        return tables


def apply(tables: Tables, data: bytes) -> None:
    at, flags, rows = 0, b"", tables.get("", {})
    while at < len(data):
        if data[at] == 0x54:
            columns, at = varint(data, at + 1)
            flags, at = data[at : at + columns], at + columns
            end = data.index(0, at)
            rows, at = tables.setdefault(data[at:end].decode(), {}), end + 1
            continue
        operation, at = data[at], at + 2
        old, at = ([], at) if operation == 0x12 else fields(data, at, len(flags))
        new, at = ([], at) if operation == 0x09 else fields(data, at, len(flags))
        key = tuple(value for value, flag in zip(old or new, flags, strict=True) if flag)
        if operation == 0x09:
            del rows[key]
            continue
        pairs = zip(rows[key] if old else new, new, strict=True)
        rows[key] = tuple(was if value is ... else value for was, value in pairs)


def digest_of(tables: Tables, key: bytes) -> str:
    total = 0
    for table, rows in tables.items():
        for row in rows.values():
            content = table.encode() + b"\0" + b"".join(map(encoded, row))
            total += int(hashlib.blake2b(content, key=key, digest_size=32).hexdigest(), 16)
    return f"{total % (1 << 256):064x}"


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = data[at] & 127
    while data[at] > 127:
        at += 1
        value = value << 7 | data[at] & 127
    return value, at + 1


def fields(data: bytes, at: int, columns: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    for _ in range(columns):
        tag, at = data[at], at + 1
        if tag in {1, 2}:
            found.append(struct.unpack_from(">q" if tag == 1 else ">d", data, at)[0])
            at += 8
        elif tag in {3, 4}:
            size, at = varint(data, at)
            found.append(data[at : at + size].decode() if tag == 3 else data[at : at + size])
            at += size
        else:
            found.append(None if tag == 5 else ...)
    return found, at


def encoded(value: Any) -> bytes:
    if isinstance(value, int):
        return struct.pack(">Bq", 1, value)
    content, tag = (value.encode(), b"\3") if isinstance(value, str) else (value, b"\4")
    length, rest = bytes((len(content) & 127,)), len(content) >> 7
    while rest:
        length, rest = bytes((rest & 127 | 128,)) + length, rest >> 7
    return tag + length + content


class Restorer:
    """Writes the tree. What cannot be had is said at the end and left out."""

    def __init__(self, filesystem: Filesystem, tables: Tables) -> None:
        self._fs, self._rows = filesystem, tables
        self._block_size = tables["meta"]["block_size",][1]
        self._children: dict[int, list[tuple[bytes, int]]] = {}
        self._xattrs: dict[int, list[tuple[bytes, bytes]]] = {}
        self._blocks: dict[int, list[tuple[int, int, int]]] = {}
        for parent, _, name, inode in tables.get("dirents", {}).values():
            self._children.setdefault(parent, []).append((name, inode))
        for inode, *attribute in tables.get("xattrs", {}).values():
            self._xattrs.setdefault(inode, []).append(tuple(attribute))
        for inode, *block in tables.get("blocks", {}).values():
            self._blocks.setdefault(inode, []).append(tuple(block))
        self._opened: OrderedDict[int, list[Member]] = OrderedDict()
        self._done: dict[int, bytes] = {}
        self.problems: list[str] = []

    def directory(self, inode: int, path: bytes) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)
        for name, child in sorted(self._children.get(inode, [])):
            if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
                raise SystemExit(f"a name is not allowed: {name!r}")
            self._entry(child, os.path.join(path, name))
        self._attributes(inode, path)

    def _entry(self, inode: int, path: bytes) -> None:
        mode = self._rows["inodes"][inode,][1]
        if stat.S_ISDIR(mode):
            self.directory(inode, path)
            return
        try:
            if inode in self._done:
                os.link(self._done[inode], path, follow_symlinks=False)
                return
            if stat.S_ISLNK(mode):
                os.symlink(self._rows["symlinks"][inode,][1], path)
            elif stat.S_ISREG(mode):
                self._file(inode, path)
            else:
                os.mknod(path, mode, self._rows["inodes"][inode,][6])
        except (LostError, OSError) as error:
            self.problems.append(f"{path!r}: {error}")
            with suppress(OSError):
                os.unlink(path)
            return
        self._done[inode] = path
        self._attributes(inode, path)

    def _file(self, inode: int, path: bytes) -> None:
        with open(path, "xb") as file:
            for number, segment, length in sorted(self._blocks.get(inode, [])):
                _, digest, raw, stored, codec, place, slot, _ = self._rows["segments"][segment,]
                row = self._article(place)[slot]
                if row[2:6] != (digest, raw, stored, codec):
                    raise LostError("an article is not the one that was wanted")
                file.seek(number * self._block_size)
                file.write(decompress(codec, row[6], raw)[:length])
            file.truncate(self._rows["inodes"][inode,][5])

    def _article(self, place: int) -> list[Member]:
        """The members of a data article; the last ones read stay in memory."""
        if place not in self._opened:
            other = self._rows.get("message_ids", {}).get((place,))
            attempt = self._rows["articles"][place,][1]
            wanted = other[1] if other else self._fs.article_id(place, attempt)
            self._opened[place] = self._fs.open(wanted, place, KIND_DATA)
            if len(self._opened) > 64:
                self._opened.popitem(last=False)
        return self._opened[place]

    def _attributes(self, inode: int, path: bytes) -> None:
        _, mode, uid, gid, _, _, _, atime, mtime, _ = self._rows["inodes"][inode,]
        try:
            if os.geteuid() == 0:
                os.chown(path, uid, gid, follow_symlinks=False)
            for name, value in self._xattrs.get(inode, []):
                os.setxattr(path, name, value, follow_symlinks=False)
            if not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode))
            os.utime(path, ns=(atime, mtime), follow_symlinks=False)
        except OSError as error:
            self.problems.append(f"{path!r}: {error}")


def key_file_of(server: Server, key: bytes) -> bytes:
    """The newest key file that a locator leads to."""
    derived = hkdf(key, "key record locator", b"", 128)
    found, generation, last = b"", 0, 0
    while generation <= last + 16:
        for copy in range(2):
            wanted = message_id(derived[32:64], struct.pack(">BIB", 3, generation, copy))
            with suppress(LostError):
                body = server.body(wanted)
                found = opened(derived[:32], bytes(16), generation, KIND_KEY, body)[0][6]
                last = generation
        generation += 1
    if not found:
        raise SystemExit("nothing is found: the name, the passphrase or the key may be mistyped")
    return found


def master_key(server: Server, options: argparse.Namespace) -> tuple[bytes, bytes]:
    """The master key and the filesystem's id."""
    secret = Path(options.recovery_key_file or options.passphrase_file)
    text = secret.read_text(encoding="utf-8").rstrip("\r\n")
    if options.recovery_key_file:
        master = parse_recovery_key(text)
        key_file = key_file_of(server, hkdf(master, "key record", b""))
    else:
        name = unicodedata.normalize("NFC", options.name).encode()
        salt = hashlib.sha256(b"usenetfs/1 key record" + name).digest()
        key_file = key_file_of(server, argon2(text, salt, 262_144, 3, 4))
        master = unlock(key_file, text)
    return master, bytes.fromhex(json.loads(key_file)["filesystem_id"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a usenetfs filesystem into a directory.")
    parser.add_argument("name")
    parser.add_argument("directory", help="made if it is not there; must be empty")
    parser.add_argument("--host", required=True)
    parser.add_argument("--tls", action="store_true")
    for option, kind in {"--port": int, "--checkpoint": int, "--ca-file": str}.items():
        parser.add_argument(option, type=kind)
    parser.add_argument("--user")
    parser.add_argument("--password-file")
    secret = parser.add_mutually_exclusive_group(required=True)
    secret.add_argument("--passphrase-file")
    secret.add_argument("--recovery-key-file")
    options = parser.parse_args()
    top = os.fsencode(options.directory)
    if os.path.isdir(top) and os.listdir(top):
        raise SystemExit("the directory is not empty")
    server = Server(options)
    filesystem = Filesystem(server, *master_key(server, options))
    number = filesystem.last() if options.checkpoint is None else options.checkpoint
    tables = None
    while tables is None:
        if number < 0:
            raise SystemExit("no state of the filesystem can be put together")
        try:
            tables = filesystem.state(number)
        except LostError as error:
            print(f"checkpoint {number}: {error}; trying the one before", file=sys.stderr)
            number -= 1
    print(f"restoring checkpoint {number}: {len(tables['inodes'])} inodes")
    restorer = Restorer(filesystem, tables)
    restorer.directory(1, top)
    print("\n".join(restorer.problems), file=sys.stderr)
    return bool(restorer.problems)


if __name__ == "__main__":
    sys.exit(main())
