"""The tree of errors.

Every error that usenetfs raises on purpose is a :class:`UsenetfsError`. Each class says, as plain
class attributes, what a program needs to react (``error_code``, ``recoverable``, ``retry_after``);
each instance carries the message, a hint about what to do next, and the context in which it arose.
The errno that FUSE answers is chosen in ``fs/errno.py`` and the process exit status in
``cli/exit_status.py``: both are tables over these classes, so this module knows neither (only
:class:`PosixError` brings its number along).

Messages never contain secrets: no password, passphrase, key, or Message-ID together with the
file it belongs to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from typing import ClassVar, Self


class UsenetfsError(Exception):
    """Base of all errors. ``str(error)`` is one line a user can read, without the hint."""

    error_code: ClassVar[str] = "error"
    """Stable, snake_case, documented; for programs."""
    recoverable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""
    retry_after: ClassVar[float | None] = None
    """Seconds to wait before trying again, where ``recoverable``."""
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, server: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint
        self.server = server
        """Name of the server concerned, as configured."""
        self.message_id: str | None = None
        """Message-ID of the article concerned."""

    def concerning(self, message_id: str) -> Self:
        """This error, which from now on names the article that it is about."""
        if self.message_id is None:
            self.message_id = message_id
            self.message = f"article {message_id}: {self.message}"
            self.args = (self.message,)
        return self


# --- what the user asked for ---------------------------------------------------------------------


class ConfigurationError(UsenetfsError):
    """A setting is missing, malformed, or contradicts another."""

    error_code = "configuration"


class UsageError(UsenetfsError):
    """A command was called in a way that makes no sense."""

    error_code = "usage"


class PosixError(UsenetfsError):
    """Names and files as they are forbid what was asked for: ``number`` is POSIX's reason."""

    error_code = "posix"
    number: int = errno.EIO

    def __init__(self, number: int, message: str | None = None) -> None:
        super().__init__(os.strerror(number) if message is None else message)
        self.number = number


class PathNotFoundError(UsenetfsError):
    """There is no such file or directory, in the filesystem or on this machine."""

    error_code = "path_not_found"


class PartialTransferError(UsenetfsError):
    """Some files could not be transferred; the others were, and each was reported by name."""

    error_code = "partial_transfer"


class FilesystemNotFoundError(UsenetfsError):
    error_code = "filesystem_not_found"


class NewsgroupNotFoundError(UsenetfsError):
    """A configured newsgroup does not exist on a server."""

    error_code = "newsgroup_not_found"


class FilesystemExistsError(UsenetfsError):
    error_code = "filesystem_exists"


class FilesystemBusyError(UsenetfsError):
    """Another process has this filesystem open."""

    error_code = "filesystem_busy"


class NotMountedError(UsenetfsError):
    """A command needs the running daemon, and there is none."""

    error_code = "not_mounted"


class FencedError(UsenetfsError):
    """Another writer goes on with this filesystem; this one may not change it any more."""

    error_code = "fenced"
    default_hint = (
        "unmount with --lazy; what is only here: usenetfs staging export NAME DIR; to go on with "
        "what is on the servers: usenetfs recover NAME; and to put the rest into it: usenetfs "
        "staging rebase NAME"
    )


class MountError(UsenetfsError):
    """The kernel or the mount point refused."""

    error_code = "mount"


class ControlError(UsenetfsError):
    """The daemon answered a command with something else than success."""

    error_code = "control"


# --- network -------------------------------------------------------------------------------------


class NetworkError(UsenetfsError):
    """Something between here and the server failed; it is worth trying again."""

    error_code = "network"
    recoverable = True
    retry_after: ClassVar[float | None] = 5.0


class ConnectError(NetworkError):
    """No connection could be made (name not found, refused, unreachable, timed out)."""

    error_code = "connect"


class TlsError(NetworkError):
    """The TLS handshake failed, the certificate among the reasons."""

    error_code = "tls"
    recoverable = False
    retry_after = None


class ConnectionLostError(NetworkError):
    """An established connection ended or timed out in the middle of something."""

    error_code = "connection_lost"


class RemoteProtocolError(NetworkError):
    """The server said something that NNTP does not allow: the server's fault."""

    error_code = "remote_protocol"


class ServerBusyError(NetworkError):
    """400, 403 and their like: the server says that it cannot now."""

    error_code = "server_busy"
    retry_after = 30.0


class TooManyConnectionsError(NetworkError):
    """The server refused a further connection because the account has enough of them."""

    error_code = "too_many_connections"
    retry_after = 60.0


class AuthenticationError(UsenetfsError):
    """The server does not accept the user name or the password."""

    error_code = "authentication"
    default_hint = "check the user name, and store the password again with: usenetfs server add"


class QuotaError(UsenetfsError):
    """The account's allowance is used up."""

    error_code = "quota"
    recoverable = True
    retry_after = 3600.0


class NoHealthyServersError(NetworkError):
    """No configured server could serve; ``reasons`` says why for each.

    ``reasons`` maps a server's name to one line of text. ``missing``: those of them that could be
    asked, and said that they do not have the article.
    """

    error_code = "no_healthy_servers"

    def __init__(
        self,
        message: str,
        *,
        reasons: dict[str, str],
        missing: Collection[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reasons = dict(reasons)
        self.missing = frozenset(missing)


# --- articles ------------------------------------------------------------------------------------


class ArticleError(UsenetfsError):
    """Something about one article."""

    error_code = "article"


class ArticleMissingError(ArticleError):
    """430 (or 451): the server does not have it. It may still arrive, or be elsewhere."""

    error_code = "article_missing"
    recoverable = True
    retry_after = 60.0

    remembered: bool = False
    """Whether nobody was asked just now, because all who may have it said no a short while ago."""


class PostingNotAllowedError(ArticleError):
    """440: this account may not post here."""

    error_code = "posting_not_allowed"
    default_hint = "ask the provider whether the account may post, or set posting = false for it"


class PostRejectedError(ArticleError):
    """441 and the reason is final for this Message-ID; a new attempt gets a new one."""

    error_code = "post_rejected"
    recoverable = True
    retry_after = 5.0


class DuplicateArticleError(PostRejectedError):
    """441 435 or 435: the server knows this Message-ID already."""

    error_code = "duplicate_article"


class PostInDoubtError(ArticleError):
    """The session ended after the article was sent and before the reply.

    Retry with the **same** Message-ID (RFC 3977 §6.3.1).
    """

    error_code = "post_in_doubt"
    recoverable = True
    retry_after = 1.0


class PostNotSeenError(ArticleError):
    """A server answered 240, and the article did not appear anywhere in time."""

    error_code = "post_not_seen"
    recoverable = True
    retry_after = 0.0


class ArticleTooLargeError(ArticleError):
    """The server does not take articles of this size."""

    error_code = "article_too_large"


# --- integrity -----------------------------------------------------------------------------------


class IntegrityError(UsenetfsError):
    """Stored data is not what was stored."""

    error_code = "integrity"


class SealError(IntegrityError):
    """The seal does not open: altered, another article, or another key."""

    error_code = "seal"


class EncodingError(IntegrityError):
    """yEnc is malformed or its CRC or size does not match."""

    error_code = "encoding"


class ContainerError(IntegrityError):
    """A sealed article opened, and its inside is not a container this version can read."""

    error_code = "container"


class WrongArticleError(IntegrityError):
    """An article opened, and is not the one that was wanted."""

    error_code = "wrong_article"


class DecompressionError(IntegrityError):
    error_code = "decompression"


class RecordError(IntegrityError):
    """A checkpoint opened, and its record is none that this version can read."""

    error_code = "record"


class DocumentError(IntegrityError):
    """A changeset or snapshot is not what its checkpoint says, or is none."""

    error_code = "document"


class DigestError(IntegrityError):
    """A rebuilt index is not the one that its checkpoint describes."""

    error_code = "digest"


class DataUnavailableError(UsenetfsError):
    """A block could not be had from any server. Names what, and why for each server."""

    error_code = "data_unavailable"


# --- keys ----------------------------------------------------------------------------------------


class KeyFileError(UsenetfsError):
    """The key file or the vault is missing or damaged."""

    error_code = "key_file"


class WrongPassphraseError(UsenetfsError):
    error_code = "wrong_passphrase"
    default_hint = "type it again, or use the recovery key"


class RecoveryKeyError(UsenetfsError):
    """A typed recovery key is malformed or its checksum does not match."""

    error_code = "recovery_key"


# --- local storage -------------------------------------------------------------------------------


class LocalStorageError(UsenetfsError):
    """The local disk failed."""

    error_code = "local_storage"


class DiskFullError(LocalStorageError):
    error_code = "disk_full"
    recoverable = True
    retry_after = 30.0
    default_hint = "free space on the disk that holds the data directory"


class DatabaseError(LocalStorageError):
    """SQLite failed, or the index is damaged."""

    error_code = "database"


class SchemaVersionError(DatabaseError):
    """The index was written by another version than this one can read."""

    error_code = "schema_version"


# --- ourselves -----------------------------------------------------------------------------------


class LocalProtocolError(UsenetfsError):
    """We tried to do something that NNTP does not allow: our fault, a bug."""

    error_code = "local_protocol"
