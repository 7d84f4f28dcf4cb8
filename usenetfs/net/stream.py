"""One byte stream to a server: TCP, or TLS over it.

Owns: name lookup and dialling (happy eyeballs, RFC 8305, by trio), the TLS policy, and turning
socket and TLS exceptions into our own. Must not know: NNTP.

Invariants:

- a certificate is always checked: by the system's authorities, by a given authority file, by a
  pin, or by the last two together. There is no switch that turns this off;
- :meth:`Stream.receive_into` receives straight into the caller's buffer. On plain TCP that is one
  ``recv_into`` of the kernel into the decoder's own memory; on TLS the records are decrypted into
  it. No ``bytes`` object of an article's size is made on either way;
- no timeouts here: the caller sets them.

``trio.SSLStream`` hands out one record (16 KiB) a call as a fresh ``bytes``; over loopback that
costs more than decrypting it. So :class:`TlsStream` drives ``ssl.SSLObject`` itself.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import hmac
import os
import socket as stdlib_socket
import ssl
import sys
import termios
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from usenetfs.errors import ConnectError, ConnectionLostError, TlsError
from usenetfs.net.settings import ServerSettings, TlsMode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

CIPHERTEXT_SIZE = 256 * 1024
"""Octets of ciphertext taken from the socket at a time: sixteen full records."""
PLAINTEXT_SIZE = 256 * 1024
"""Octets of an article encrypted at a time, so that ciphertext never piles up."""
LOOKUPS_AT_ONCE = 4
"""Lookups of one name at once; each takes milliseconds, or hangs."""


class Stream(Protocol):
    """What a connection needs of a stream. Tests have one in memory."""

    async def receive_into(self, buffer: WriteableBuffer) -> int:
        """Wait for octets, put them at the start of ``buffer``; their number, 0 at the end."""
        ...

    def receive_nowait(self, buffer: WriteableBuffer) -> int | None:
        """What ``receive_into`` would give at once; None: it would have to wait."""
        ...

    async def send_all(self, parts: Iterable[ReadableBuffer]) -> None:
        """Send the parts one after the other. One caller at a time."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Send what can be sent without waiting; how many octets that was, perhaps none.

        Only while no ``send_all`` is going on.
        """
        ...

    def taken(self) -> int:
        """Octets that have arrived at the peer so far; never fewer than before."""
        ...

    def end_sending(self) -> None:
        """Tell the peer that no more will come. Never fails."""
        ...

    def close(self) -> None:
        """Close at once. Idempotent; a task waiting in the stream gets ConnectionLostError."""
        ...


class Dialer(Protocol):
    """Makes streams. A pool is given one, so that tests need no network."""

    async def connect(self, settings: ServerSettings) -> Stream:
        """TCP, and TLS where it is implicit. ConnectError, TlsError."""
        ...

    async def start_tls(self, stream: Stream, settings: ServerSettings) -> Stream:
        """Wrap a stream after 382. ConnectError, TlsError."""
        ...


class TcpStream:
    """A connected TCP socket, which it owns."""

    def __init__(self, sock: stdlib_socket.socket) -> None:
        sock.settimeout(0)
        if sock.family != stdlib_socket.AF_UNIX:
            sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
        self._sock = sock
        self._sent = 0

    def __repr__(self) -> str:
        return f"<TcpStream fd={self._sock.fileno()}>"

    async def receive_into(self, buffer: WriteableBuffer) -> int:
        # Waiting first means one epoll round per call in any case, and while this task waits
        # its turn the kernel's buffer fills, so that the read is larger.
        if self._sock.fileno() < 0:
            # Waiting on it fails in trio, which keeps the waiter of descriptor -1: the next one
            # would get BusyResourceError, which nobody expects.
            await trio.lowlevel.checkpoint()
            raise _lost(trio.ClosedResourceError())
        try:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    return self._sock.recv_into(buffer)
                except BlockingIOError:
                    continue
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise _lost(error) from error

    def receive_nowait(self, buffer: WriteableBuffer) -> int | None:
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        except (OSError, ValueError) as error:
            raise _lost(error) from error

    async def send_all(self, parts: Iterable[ReadableBuffer]) -> None:
        await trio.lowlevel.checkpoint()
        views = [memoryview(part).cast("B") for part in parts]
        try:
            while views:
                try:
                    sent = self._sock.sendmsg(views)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                    continue
                self._sent += sent
                while views and sent >= len(views[0]):
                    sent -= len(views[0])
                    views.pop(0).release()
                if sent:
                    views[0] = views[0][sent:]
        except (OSError, ValueError, trio.ClosedResourceError) as error:
            raise _lost(error) from error
        finally:
            for view in views:
                view.release()

    def send_nowait(self, data: bytes) -> int:
        try:
            sent = self._sock.send(data)
        except OSError:
            return 0  # whoever waits in send_all or receive_into next learns what it was
        self._sent += sent
        return sent

    def taken(self) -> int:
        waiting = bytearray(4)
        try:
            fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, waiting)  # SIOCOUTQ in tcp(7)
        except (OSError, ValueError):
            return 0  # closed
        return self._sent - int.from_bytes(waiting, sys.byteorder)

    def end_sending(self) -> None:
        try:
            self._sock.shutdown(stdlib_socket.SHUT_WR)
        except OSError:
            return  # already gone, which is what was wanted

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


class TlsStream:
    """TLS over a :class:`TcpStream`, which it owns. Call :meth:`handshake` first."""

    def __init__(self, tcp: Stream, context: ssl.SSLContext, server_hostname: str) -> None:
        self._tcp = tcp
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server_hostname
        )
        self._ciphertext = memoryview(bytearray(CIPHERTEXT_SIZE))
        # Ciphertext must leave in the order it was made, also what reading makes (key updates).
        self._sending = trio.Lock()

    def __repr__(self) -> str:
        return f"<TlsStream {self._tls.version() or 'handshake'} over {self._tcp!r}>"

    async def handshake(self, pin: bytes | None) -> None:
        """Raises TlsError if the certificate or the pin is not right, ConnectError if cut off."""
        try:
            await self._negotiate()
        except ssl.SSLCertVerificationError as error:
            raise TlsError(f"certificate not accepted: {error.verify_message}") from error
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            # Who restarts or is overloaded hangs up; there is nothing wrong with its TLS.
            raise ConnectError("the server hung up in the TLS handshake") from error
        except ssl.SSLError as error:
            raise TlsError(f"TLS handshake failed: {error.reason or error}") from error
        except ConnectionLostError as error:
            raise ConnectError(f"connection lost in the TLS handshake: {error}") from error
        if pin is not None:
            certificate = self._tls.getpeercert(binary_form=True) or b""
            if not hmac.compare_digest(hashlib.sha256(certificate).digest(), pin):
                raise TlsError(
                    "the server's certificate is not the pinned one",
                    hint="if the provider changed it, ask them for the new fingerprint",
                )

    def describe(self) -> tuple[str, str, bytes]:
        """Version of TLS, cipher, and the server's certificate (DER)."""
        cipher = self._tls.cipher()
        certificate = self._tls.getpeercert(binary_form=True) or b""
        return self._tls.version() or "", cipher[0] if cipher else "", certificate

    async def _negotiate(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            else:
                await self._flush()
                return

    async def receive_into(self, buffer: WriteableBuffer) -> int:
        await trio.lowlevel.checkpoint()
        try:
            while True:
                with memoryview(buffer) as view:
                    count, ended = self._decrypt_into(view)
                if self._outgoing.pending:
                    await self._flush()
                if count or ended:
                    return count
                await self._fill()
        except ssl.SSLError as error:
            raise ConnectionLostError(f"TLS failed: {error.reason or error}") from error

    def receive_nowait(self, buffer: WriteableBuffer) -> int | None:
        try:
            with memoryview(buffer) as view:
                count, ended = self._decrypt_into(view)
                if not count and not ended and not self._outgoing.pending:
                    received = self._tcp.receive_nowait(self._ciphertext)
                    if received is None:
                        return None
                    self._take(received)
                    count, ended = self._decrypt_into(view)
        except ssl.SSLError as error:
            raise ConnectionLostError(f"TLS failed: {error.reason or error}") from error
        return count if count or ended else None

    def _decrypt_into(self, view: memoryview) -> tuple[int, bool]:
        """As many of the received records as fit. Octets, and whether the stream has ended."""
        count = 0
        while count < len(view):
            try:
                got: int = self._tls.read(len(view) - count, view[count:])  # type: ignore[assignment]  # typeshed knows only the form without a buffer
            except ssl.SSLWantReadError:
                return count, False
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return count, True  # NNTP's own framing tells whether something is missing
            if got == 0:
                return count, True
            count += got
        return count, False

    async def _fill(self) -> None:
        self._take(await self._tcp.receive_into(self._ciphertext))

    def _take(self, count: int) -> None:
        if count:
            self._incoming.write(self._ciphertext[:count])
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        async with self._sending:
            while self._outgoing.pending:
                await self._tcp.send_all([self._outgoing.read()])

    async def send_all(self, parts: Iterable[ReadableBuffer]) -> None:
        await trio.lowlevel.checkpoint()
        async with self._sending:
            for part in parts:
                with memoryview(part).cast("B") as view:
                    for start in range(0, len(view), PLAINTEXT_SIZE):
                        with view[start : start + PLAINTEXT_SIZE] as piece:
                            await self._send_piece(piece)

    async def _send_piece(self, piece: memoryview) -> None:
        try:
            self._tls.write(piece)
        except ssl.SSLError as error:
            raise ConnectionLostError(f"TLS failed: {error.reason or error}") from error
        while self._outgoing.pending:
            await self._tcp.send_all([self._outgoing.read()])

    def send_nowait(self, data: bytes) -> int:
        return 0  # encrypted but unsent octets would have to be kept: send_all does that better

    def taken(self) -> int:
        return self._tcp.taken()

    def end_sending(self) -> None:
        self._tcp.end_sending()

    def close(self) -> None:
        self._tcp.close()


class Lookups(trio.abc.HostnameResolver):
    """Names to addresses, in threads of their own.

    A resolver that hangs keeps its thread for half a minute and more, also when the dial was given
    up long ago. Of trio's forty threads, which everything shares that touches the disk, the dials
    of a network that went away would take all.
    """

    def __init__(self) -> None:
        self._threads: defaultdict[object, trio.CapacityLimiter] = defaultdict(
            lambda: trio.CapacityLimiter(LOOKUPS_AT_ONCE)
        )
        """For each name; one that hangs does not hold up the others."""

    def __repr__(self) -> str:
        return f"<Lookups {sum(one.borrowed_tokens for one in self._threads.values())} under way>"

    async def getaddrinfo(self, *question: Any) -> list[Any]:
        return await self._in_thread(stdlib_socket.getaddrinfo, *question)

    async def getnameinfo(self, *question: Any) -> tuple[str, str]:
        return await self._in_thread(stdlib_socket.getnameinfo, *question)

    async def _in_thread(self, look_up: Callable[..., T], *question: Any) -> T:
        limiter = self._threads[question[0]]
        return await trio.to_thread.run_sync(
            look_up, *question, abandon_on_cancel=True, limiter=limiter
        )


class NetworkDialer:
    """The real thing."""

    async def connect(self, settings: ServerSettings) -> Stream:
        try:
            stream = await trio.open_tcp_stream(settings.host, settings.port)
        except (OSError, UnicodeError) as error:
            # A name that no lookup takes (two dots in a row) is UnicodeError.
            raise ConnectError(
                f"cannot connect to {settings.host}:{settings.port}: {_reason(error)}",
                hint=f"check host and port of {settings.name}: usually 563 with TLS, 119 without",
                server=settings.name,
            ) from error
        # trio keeps its socket to itself; the descriptor is taken over by a plain one.
        tcp = TcpStream(stdlib_socket.socket(fileno=stream.socket.detach()))
        if settings.tls is TlsMode.IMPLICIT:
            return await self.start_tls(tcp, settings)
        return tcp

    async def start_tls(self, stream: Stream, settings: ServerSettings) -> Stream:
        pin = settings.pin_bytes
        context = _tls_context(settings.ca_file, pin is not None)
        tls = TlsStream(stream, context, settings.host)
        try:
            await tls.handshake(pin)
        except BaseException as error:
            tls.close()
            if isinstance(error, TlsError | ConnectError) and error.hint is None:
                error.hint = _tls_hint(error, settings)
            raise
        return tls


def _tls_hint(error: TlsError | ConnectError, settings: ServerSettings) -> str:
    """What to do about a handshake that failed; the cause is OpenSSL's own error."""
    if not isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return (
            f"is {settings.port} a port for TLS? 563 is, usually; "
            'for 119 set tls = "starttls" or "none"'
        )
    if "mismatch" in error.__cause__.verify_message or "match" in error.__cause__.verify_message:
        return f"is {settings.host} the name that the provider gives?"
    return (
        f"if it is your provider's own: pin it, with the SHA-256 from: openssl s_client -connect "
        f"{settings.host}:{settings.port} </dev/null | openssl x509 -noout -fingerprint -sha256"
    )


@functools.lru_cache(maxsize=32)
def _tls_context(ca_file: Path | None, pinned: bool) -> ssl.SSLContext:
    """Reading the authorities takes 10 ms and more, so one context serves all connections."""
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot read the authorities in {ca_file}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pinned and ca_file is None:
        # The pin decides instead: it is checked before a single octet of ours is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: OSError | UnicodeError) -> str:
    """One line, also for trio's groups of one error per address."""
    if isinstance(error, UnicodeError):
        return "this is no name of a host"
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return "; ".join(sorted({_in_words(part) for part in cause.exceptions}))
    return error.strerror or str(error)


def _in_words(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)


def _lost(error: Exception) -> ConnectionLostError:
    if isinstance(error, trio.ClosedResourceError | ValueError):
        return ConnectionLostError("the connection was closed on this side")
    if isinstance(error, OSError) and error.strerror:
        return ConnectionLostError(f"connection lost: {error.strerror}")
    return ConnectionLostError(f"connection lost: {error}")
