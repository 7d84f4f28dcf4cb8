"""What can be configured: every section, key, default and limit.

This module is the reference of the configuration file. Each field's docstring is what
``docs/configuration.md`` and error messages rest on. Values are plain (octets, seconds, text);
constructors elsewhere take those and never see these classes, the daemon being the one that takes
them apart. Invariant: unknown keys are errors; a model is frozen once made. Knows nothing of files.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from usenetfs.config.units import format_duration, format_size, parse_duration, parse_size
from usenetfs.transfer.upload.limits import QuietHours

MIB: Final = 1024**2
GIB: Final = 1024**3

_NEWSGROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]*(?:\.[A-Za-z0-9+_-]+)*")


def _size(minimum: int = 0, maximum: int | None = None) -> Callable[[object], int]:
    def read(value: object) -> int:
        octets = parse_size(value)
        if octets < minimum:
            raise ValueError(
                f"{format_size(octets)} is too little; at least {format_size(minimum)}"
            )
        if maximum is not None and octets > maximum:
            raise ValueError(f"{format_size(octets)} is too much; at most {format_size(maximum)}")
        return octets

    return read


def _duration(minimum: float, maximum: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        seconds = parse_duration(value)
        if not minimum <= seconds <= maximum:
            raise ValueError(
                f"{format_duration(seconds)} is out of range; "
                f"{format_duration(minimum)} to {format_duration(maximum)}"
            )
        return seconds

    return read


def _tls(value: object) -> object:
    """``true`` and ``false`` stand for ``implicit`` and ``none``, also as text."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    return {True: "implicit", False: "none"}[value] if isinstance(value, bool) else value


def _comma_list(value: object) -> object:
    """``a, b`` as it comes from a variable is the list ``["a", "b"]``."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _newsgroup(value: str) -> str:
    if not _NEWSGROUP.fullmatch(value):
        raise ValueError(f'"{value}" is not a newsgroup name such as "alt.binaries.test"')
    return value


def _pin(value: object) -> object:
    """SHA-256 of a certificate as 64 hex digits (colons allowed) or base64; kept as hex."""
    if not isinstance(value, str):
        return value
    text = value.strip().removeprefix("sha256:").removeprefix("sha256//")
    digits = text.replace(":", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", digits):
        return digits
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32:
        raise ValueError("must be the SHA-256 of the certificate: 64 hex digits, or base64")
    return raw.hex()


Size = Annotated[int, BeforeValidator(_size()), PlainSerializer(format_size, when_used="json")]
LargeSize = Annotated[
    int, BeforeValidator(_size(16 * MIB)), PlainSerializer(format_size, when_used="json")
]


def _rate(value: object) -> object:
    """``5 MB/s`` is ``5 MB`` a second."""
    return parse_size(value.strip().removesuffix("/s") if isinstance(value, str) else value)


def _quiet_hours(value: object) -> object:
    if not isinstance(value, str):
        return value
    return str(QuietHours.parse(value))


Rate = Annotated[int, BeforeValidator(_rate), PlainSerializer(format_size, when_used="json")]
"""Octets a second."""
Timeout = Annotated[
    float,
    BeforeValidator(_duration(0.1, 3600)),
    PlainSerializer(format_duration, when_used="json"),
]
Delay = Annotated[
    float, BeforeValidator(_duration(0, 86400)), PlainSerializer(format_duration, when_used="json")
]
FilePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
"""Absolute: the daemon works in another directory than the command line."""
Newsgroup = Annotated[str, BeforeValidator(lambda v: _newsgroup(v) if isinstance(v, str) else v)]
Level = Literal["debug", "info", "warning", "error", "critical"]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSection(Section):
    """One ``[[servers]]`` entry. The password is in the vault, never here."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """How messages and ``server remove`` call it."""
    host: Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
    """Host name or address."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """563 with TLS from the start, 119 otherwise, unless given."""
    tls: Annotated[Literal["implicit", "starttls", "none"], BeforeValidator(_tls)] = "implicit"
    """``true`` (``implicit``), ``"starttls"`` or ``false`` (``none``)."""
    ca_file: FilePath | None = None
    """PEM file of certificates to trust instead of the system's."""
    pin: Annotated[str, BeforeValidator(_pin)] | None = None
    """SHA-256 of the only certificate accepted."""
    username: Annotated[str, Field(min_length=1)] | None = None
    """The account; its password is asked for by ``usenetfs server add``."""
    connections: Annotated[int, Field(ge=1, le=200)] = 8
    """At most this many at once; what the account allows."""
    priority: Annotated[int, Field(ge=0, le=1000)] = 0
    """Lower is asked first; equal ones share by health."""
    posting: bool = True
    """Whether articles may be posted here."""
    storage_group: Annotated[str, Field(min_length=1)] | None = None
    """Servers of one group share their articles: what one misses, the others miss too."""
    max_pipeline: Annotated[int, Field(ge=1, le=64)] = 16
    """Requests outstanding on one connection, at most; 1 for a server that cannot pipeline."""
    post_ahead: bool = False
    """Whether the next POST may be sent before the reply to the last article; some servers
    cannot take that, ``usenetfs server test`` finds out."""
    reserved_connections: Annotated[int, Field(ge=0, le=199)] | None = None
    """Connections kept for programs that wait for a read; one in ten unless given."""
    warm_connections: Annotated[int, Field(ge=0, le=200)] = 3
    """Connections kept open while nothing is to be done."""

    @model_validator(mode="after")
    def _leaves_connections(self) -> ServerSection:
        if self.reserved_connections is not None and self.reserved_connections >= self.connections:
            raise ValueError("reserved_connections must be fewer than connections")
        return self

    @property
    def effective_port(self) -> int:
        return self.port or (563 if self.tls == "implicit" else 119)


class RuleSection(Section):
    """One ``[[posting.rules]]`` entry: newsgroups for some files. Tells the world what they are."""

    groups: Annotated[tuple[Newsgroup, ...], BeforeValidator(_comma_list), Field(min_length=1)]
    """Where files that fit are posted."""
    pattern: Annotated[str, Field(min_length=1)] | None = None
    """Shell pattern on the file's name, such as ``*.flac``."""
    min_size: Size | None = None
    """Of the file; only those at least as large fit."""
    max_size: Size | None = None
    """Of the file; only those at most as large fit."""

    @model_validator(mode="after")
    def _says_something(self) -> RuleSection:
        if self.pattern is None and self.min_size is None and self.max_size is None:
            raise ValueError("needs a pattern, min_size or max_size; otherwise use posting.groups")
        if None not in {self.min_size, self.max_size} and self.min_size > self.max_size:  # type: ignore[operator]
            raise ValueError("min_size is larger than max_size: the rule can never apply")
        return self


class PostingSection(Section):
    """``[posting]``: where articles go."""

    groups: Annotated[tuple[Newsgroup, ...], BeforeValidator(_comma_list)] = ()
    """General newsgroups, taken in turn. At least one is needed to post."""
    rules: tuple[RuleSection, ...] = ()


class CacheSection(Section):
    """``[cache]``: what was fetched and can be fetched again."""

    max_size: Size = 20 * GIB
    """Of articles kept on disk."""
    memory_size: Size = 96 * MIB
    """Of opened articles kept in memory."""
    min_free: Size = 1 * GIB
    """Left free on the cache's disk, whatever ``max_size`` says."""


class StagingSection(Section):
    """``[staging]``: what is not yet safe on Usenet."""

    max_size: LargeSize = 50 * GIB
    """Writers wait when this much is staged."""
    min_free: Size = 512 * MIB
    """Left free on the disk of the data directory, for the index: without room to note what was
    uploaded, nothing staged could be freed. At most a tenth of that disk."""
    settle: Delay = 2.0
    """How long a block must rest unwritten before it is uploaded."""
    fsync: Annotated[Literal["local", "posted", "seen"], BeforeValidator(_lower)] = "local"
    """What ``fsync`` waits for: this disk, a server's acceptance, or that it was found there."""
    free_at: Annotated[Literal["seen", "verified"], BeforeValidator(_lower)] = "seen"
    """When the local copy goes: when a STAT found the article, or when it was fetched and opened
    (which downloads everything once)."""


class CheckpointSection(Section):
    """``[checkpoint]``: publishing the index."""

    interval: Annotated[
        float,
        BeforeValidator(_duration(1, 86400)),
        PlainSerializer(format_duration, when_used="json"),
    ] = 30.0
    """How often, while there is something new."""
    copies: Annotated[int, Field(ge=1, le=8)] = 2
    """Of each checkpoint; two more of those that others depend on."""
    max_held: Annotated[
        float,
        BeforeValidator(_duration(1, 86400)),
        PlainSerializer(format_duration, when_used="json"),
    ] = 60.0
    """A file that is written without pause gets into a checkpoint after this long, or after two
    intervals if that is more: writes into it wait for a moment then."""


class IndexSection(Section):
    """``[index]``: the database of names and blocks, on the local disk."""

    batch: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Rows in one transaction where many are written or deleted; programs wait that long."""
    cache: Annotated[
        int,
        BeforeValidator(_size(MIB, 64 * GIB)),
        PlainSerializer(format_size, when_used="json"),
    ] = 32 * MIB
    """Memory for its pages; all else stays on the disk, however many files there are."""


class KeysSection(Section):
    """``[keys]``: what one guess at a passphrase costs (Argon2id, RFC 9106), in files made from
    now on: at ``init``, ``key change-passphrase``, ``server add``. Each file states its own."""

    memory: Annotated[
        int,
        BeforeValidator(_size(19 * MIB, 4 * GIB)),
        PlainSerializer(format_size, when_used="json"),
    ] = 256 * MIB
    """Taken once at each unlocking; less suits a machine that has little."""
    iterations: Annotated[int, Field(ge=2, le=64)] = 3
    """Passes over it."""
    keyring: bool = False
    """Whether passphrases are looked for in the desktop's keyring; ``usenetfs key remember`` puts
    them there."""


class UploadSection(Section):
    """``[upload]``: from staging to articles."""

    codec: Annotated[Literal["zstd", "lzma", "zlib", "none"], BeforeValidator(_lower)] = "zstd"
    """``zstd``, ``lzma``, ``zlib`` or ``none``; what does not shrink is stored as it is."""
    level: Annotated[int, Field(ge=-7, le=22)] | None = None
    """Compression level; each codec has its own default and limits."""
    connections: Annotated[int, Field(ge=1, le=200)] | None = None
    """Posts at once; found by itself unless given, and never above the servers' sum."""
    rate: Rate | None = None
    """Octets a second that articles may take, such as ``5 MB/s``; no limit unless given."""
    quiet_hours: Annotated[str, BeforeValidator(_quiet_hours)] | None = None
    """Local time in which ``quiet_rate`` holds, such as ``08:00-18:00``; may go over midnight."""
    quiet_rate: Rate = 0
    """In quiet hours; 0 stops uploads for the time."""
    workers: Annotated[int, Field(ge=1, le=64)] | None = None
    """Threads that hash, compress and seal; min(8, processors) unless given."""
    check_delay: Delay = 0.2
    """Between the server's 240 and the STAT that checks it."""
    check_timeout: Annotated[
        float,
        BeforeValidator(_duration(1, 86400)),
        PlainSerializer(format_duration, when_used="json"),
    ] = 600.0
    """What is not seen by then is posted again."""

    @model_validator(mode="after")
    def _level_fits_codec(self) -> UploadSection:
        low, high = {"zstd": (-7, 22), "lzma": (0, 9), "zlib": (0, 9), "none": (-7, 22)}[self.codec]
        if self.level is not None and not low <= self.level <= high:
            raise ValueError(f"level {self.level} is none of {self.codec}'s: {low} to {high}")
        return self


RetryStrategy = Annotated[
    Literal["exponential", "linear", "fibonacci", "fixed"], BeforeValidator(_lower)
]
RetryCount = Annotated[int, Field(ge=0, le=1000)]


class RetrySection(Section):
    """``[network.retry.KIND]``: what differs for one kind of operation from ``[network]``."""

    retries: RetryCount | None = None
    """How often it is tried again."""
    strategy: RetryStrategy | None = None
    """``exponential``, ``linear``, ``fibonacci`` or ``fixed``."""
    delay: Timeout | None = None
    """The first wait."""
    max_delay: Timeout | None = None
    """No wait is longer."""
    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of a wait by which chance makes it longer or shorter."""


class RetrySections(Section):
    """``[network.retry]``: by kind of operation."""

    connect: RetrySection = RetrySection()
    """Dialling a server that could not be reached or did not let us in; without end."""
    fetch: RetrySection = RetrySection()
    """An article that a program waits for, while no server can be asked; for a minute, or
    ``retries`` times where given."""
    post: RetrySection = RetrySection()
    """Sending an article; without end unless ``retries`` is given."""
    stat: RetrySection = RetrySection()
    """Looking for an article that was posted; until ``upload.check_timeout``."""


class NetworkSection(Section):
    """``[network]``: how long to wait for servers, and how to try again."""

    connect_timeout: Timeout = 20.0
    """For name lookup, TCP, TLS, greeting and login together."""
    timeout: Timeout = 60.0
    """For a reply to begin, and for each further piece of it."""
    idle_check: Timeout = 30.0
    """An idle connection is probed this often."""
    retries: RetryCount = 5
    """How often an operation is tried again; posting goes on for as long as it takes."""
    retry_strategy: RetryStrategy = "exponential"
    """How the waits grow: ``exponential``, ``linear``, ``fibonacci`` or ``fixed``."""
    retry_delay: Timeout = 1.0
    """The first wait."""
    retry_max_delay: Timeout = 60.0
    """No wait is longer."""
    retry_jitter: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The share of a wait by which chance makes it longer or shorter."""
    retry: RetrySections = RetrySections()


class LogSection(Section):
    """``[log]``: what is written down."""

    format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = "text"
    """``text`` or ``json``."""
    upload: Annotated[Level, BeforeValidator(_lower)] = "info"
    """Level of upload.log: ``debug``, ``info``, ``warning``, ``error`` or ``critical``."""
    download: Annotated[Level, BeforeValidator(_lower)] = "info"
    """Level of download.log."""
    security: Annotated[Level, BeforeValidator(_lower)] = "warning"
    """Level of security.log."""
    database: Annotated[Level, BeforeValidator(_lower)] = "error"
    """Level of database.log."""
    performance: Annotated[Level, BeforeValidator(_lower)] = "debug"
    """Level of performance.log."""
    max_size: Annotated[
        int, BeforeValidator(_size(64 * 1024)), PlainSerializer(format_size, when_used="json")
    ] = 10_000_000
    """Of one file before it is rotated."""
    backups: Annotated[int, Field(ge=1, le=100)] = 5
    """How many old files are kept."""


def _listen(value: object) -> object:
    """``8119`` and ``localhost:8119`` are ports of this machine; other addresses are refused."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return value
    host, _, port = str(value).strip().rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1", "[::1]": "[::1]"}.get(host, host)
    if host not in {"127.0.0.1", "[::1]"}:
        raise ValueError(f'"{host}" is not this machine: only 127.0.0.1, localhost and [::1] are')
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f'"{port}" is no port; an address is such as "127.0.0.1:8119"')
    return f"{host}:{int(port)}"


class ControlSection(Section):
    """``[control]``: the daemon's own answers, on a port of this machine."""

    listen: Annotated[str, BeforeValidator(_listen)] | None = None
    """Where to serve the web page, the API and metrics, such as ``127.0.0.1:8119``; off unless
    given."""


class Settings(BaseSettings):
    """Everything, validated. Made by ``loader.load``; defaults alone by ``Settings()``."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    data_dir: FilePath | None = None
    """Filesystems and the vault; ``~/.local/share/usenetfs`` unless given."""
    cache_dir: FilePath | None = None
    """What may be deleted at any time; ``~/.cache/usenetfs`` unless given."""
    servers: tuple[ServerSection, ...] = ()
    posting: PostingSection = PostingSection()
    cache: CacheSection = CacheSection()
    staging: StagingSection = StagingSection()
    checkpoint: CheckpointSection = CheckpointSection()
    index: IndexSection = IndexSection()
    keys: KeysSection = KeysSection()
    upload: UploadSection = UploadSection()
    network: NetworkSection = NetworkSection()
    log: LogSection = LogSection()
    control: ControlSection = ControlSection()

    @model_validator(mode="after")
    def _server_names_differ(self) -> Settings:
        seen: set[str] = set()
        for server in self.servers:
            if server.name in seen:
                raise ValueError(f'two servers are called "{server.name}"; names must differ')
            seen.add(server.name)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: nothing is read behind the loader's back."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)
