"""A private INN news server for tests and benchmarks: nothing installed, nothing left running.

Owns: fetching Debian's ``inn2`` packages into the checkout's cache, the configuration of one
server inside one directory, and the processes of that server. Invariants: every path INN uses
lies in the given directory or in the cache; it listens on 127.0.0.1 only; it runs as ``news``
when started by root (INN refuses root); every process started here is ended here, by its id.
Must not know: anything of usenetfs.

Readers need no login unless ``users`` is given; they may read, post and use IHAVE. A client that
binds its end to ``PEER_ADDRESS`` is treated as a feeding peer and talks to ``innd`` itself.

From the command line::

    python scripts/private_inn.py --dir D [--port P] [--user U --password-file F]

prints ``host:port`` when the server answers, and runs until SIGTERM, SIGINT or end of input.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

SYSTEM_PACKAGES: Final = (
    "libcanlock3",
    "libcrypt1",
    "libdb5.3",
    "libpam0g",
    "libperl5.36",
    "libpython3.11",
    "libsasl2-2",
    "libsqlite3-0",
    "libssl3",
    "libsystemd0",
    "zlib1g",
)
"""Libraries that Debian 12's inn2 names. Installing them is the ordinary way; those that are not
installed are unpacked beside INN, which serves where one is not root."""

INN_PACKAGES: Final = ("inn2", "inn2-inews")
CACHE: Final = Path(__file__).resolve().parent.parent / ".cache" / "inn"
HOST: Final = "127.0.0.1"
PEER_ADDRESS: Final = "127.0.0.2"
RUN_AS: Final = "news"
DEFAULT_MAX_ARTICLE: Final = 1_000_000
"""Octets on the wire, headers included: INN's own default."""
DEFAULT_GROUPS: Final = (
    "alt.binaries.boneless",
    "alt.binaries.misc",
    "alt.binaries.test",
    "alt.test",
    "misc.test",
)
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 10.0

_PATHS: Final = {
    "patharchive": "spool/archive",
    "patharticles": "spool/articles",
    "pathdb": "db",
    "pathetc": "etc",
    "pathfilter": "etc/filter",
    "pathhttp": "http",
    "pathincoming": "spool/incoming",
    "pathlog": "log",
    "pathoutgoing": "spool/outgoing",
    "pathoverview": "spool/overview",
    "pathrun": "run",
    "pathspool": "spool",
    "pathtmp": "spool/incoming/tmp",
}


class InnError(Exception):
    """INN could not be fetched, configured, started or stopped; the message says which and why."""


# --- the packages --------------------------------------------------------------------------------


def prepare(cache: Path = CACHE) -> Path:
    """Return the folder with INN's files unpacked, downloading them the first time.

    Safe to call from several processes at once. Raises :class:`InnError` without ``apt-get`` and
    ``dpkg-deb``, or when the archive cannot be reached.
    """
    prefix = cache / "prefix"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prefix.exists():
            _unpack(cache, prefix)
    return prefix


def _unpack(cache: Path, prefix: Path) -> None:
    for tool in ("apt-get", "dpkg-deb", "dpkg-query"):
        if shutil.which(tool) is None:
            raise InnError(f"{tool} is missing: a private INN needs Debian, Ubuntu or their kin")
    packages = cache / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    _download(packages, INN_PACKAGES)
    missing = [name for name in _libraries(packages) if not _installed(name)]
    if missing:
        _download(packages, missing)
    partial = cache / "prefix.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for archive in sorted(packages.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(partial)])
    partial.chmod(0o755)
    partial.rename(prefix)


def _download(folder: Path, names: Sequence[str]) -> None:
    _run(["apt-get", "-qq", "download", *names], cwd=folder)


def _libraries(packages: Path) -> list[str]:
    """Names of the shared libraries that the downloaded inn2 depends on."""
    (archive,) = packages.glob("inn2_*.deb")
    depends = _run(["dpkg-deb", "-f", str(archive), "Depends"])
    names = [entry.split("|")[0].split("(")[0].strip() for entry in depends.split(",")]
    return [name for name in names if name.startswith(("lib", "zlib")) and "-perl" not in name]


def _installed(name: str) -> bool:
    found = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", name], capture_output=True, text=True, check=False
    )
    return found.stdout.endswith("ok installed")


def _run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise InnError(f"{' '.join(command[:3])} failed: {reason}")
    return done.stdout


# --- the server ----------------------------------------------------------------------------------


class PrivateInn:
    """One INN in one directory, which it makes and owns; the spool outlives ``stop``.

    ``port`` 0 takes a free one. ``users`` (name → password) makes readers log in. ``tls`` (paths
    of certificate chain and key) offers STARTTLS on ``port`` and runs an implicit-TLS listener on
    ``tls_port``. As a context manager it starts on entry and stops on exit.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        users: Mapping[str, str] | None = None,
        tls: tuple[Path, Path] | None = None,
        max_article: int = DEFAULT_MAX_ARTICLE,
        groups: Sequence[str] = DEFAULT_GROUPS,
    ) -> None:
        self.directory = directory.resolve()
        self.host = HOST
        self.port = port or free_port()
        self.tls_port = free_port() if tls else 0
        self._users = dict(users or {})
        self._tls = tls
        self._max_article = max_article
        self._groups = tuple(groups)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._account = _account()
        self._prefix = prepare()
        self._configure()

    def __repr__(self) -> str:
        state = "running" if self._processes else "stopped"
        return f"<PrivateInn {self.host}:{self.port} {state} in {self.directory}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of ``innd``; raises :class:`InnError` when it is not running."""
        if not self._processes:
            raise InnError("INN is not running")
        return self._processes[0].pid

    def start(self) -> None:
        """Start it and return when it answers; raises :class:`InnError` with its last words."""
        if self._processes:
            raise InnError("INN is already running")
        programs = [([str(self._bin / "innd"), "-f", "-N"], self.port)]
        if self._tls:
            listener = [str(self._bin / "nnrpd"), "-D", "-f", "-S", "-4", HOST]
            programs.append(([*listener, "-p", str(self.tls_port)], self.tls_port))
        try:
            for command, port in programs:
                with (self.directory / "log" / "stderr").open("ab") as log:
                    process = subprocess.Popen(
                        self._as_news(command),
                        env=self._environment(),
                        cwd=self.directory,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                self._processes.append(process)
                self._wait_until_listening(process, port)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order (the history is written out), then every process it left."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL to all its processes at once."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop in order and start again on the same port with the same spool."""
        self.stop()
        self.start()

    # --- processes

    def cancel(self, message_id: str) -> None:
        """Take an article away, as its author's cancel message or a takedown does."""
        control = [str(self._bin / "ctlinnd"), "-t", "30", "cancel", message_id]
        _run(self._as_news(control), cwd=self.directory, env=self._environment())

    def _end(self, how: signal.Signals) -> None:
        processes, self._processes = self._processes, []
        for process in reversed(processes):
            process.send_signal(how)
        for process in processes:
            self._wait_for_end(process)
            # The nnrpd of each open connection is a child in the session that start() made.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if processes:
            (self.directory / "run" / "innd.pid").unlink(missing_ok=True)

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait; innd notices SIGTERM only when something else wakes it, so connect to it too."""
        deadline = time.monotonic() + STOP_TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
                pass
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)

    def _wait_until_listening(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                words = (self.directory / "log" / "stderr").read_text(errors="replace")[-2000:]
                raise InnError(f"INN ended at once with status {process.returncode}: {words}")
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        raise InnError(f"INN did not listen on port {port} within {START_TIMEOUT:g} s")

    @property
    def _bin(self) -> Path:
        return self._prefix / "usr" / "lib" / "news" / "bin"

    def _environment(self) -> dict[str, str]:
        libraries = [self._prefix / "usr/lib/news", *self._prefix.glob("usr/lib/*-linux-gnu")]
        return {
            "INNCONF": str(self.directory / "etc" / "inn.conf"),
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PATH": os.environ.get("PATH", os.defpath),
        }

    def _as_news(self, command: Sequence[str]) -> list[str]:
        """The command under INN's account; it keeps the right to pass through private parents.

        Not the right to write everywhere: where no syslog listens, INN's log lines would go to the
        console, and on a virtual machine with a serial one that took three quarters of innd's time.
        """
        if os.geteuid() != 0:
            return list(command)
        account = self._account
        change = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return ["setpriv", *change, *rights, "--", *command]

    # --- configuration

    def _configure(self) -> None:
        for path in sorted({"spool", *_PATHS.values()}):
            (self.directory / path).mkdir(parents=True, exist_ok=True)
        certificates = self._copy_certificates()
        for name, text in self._files(certificates).items():
            (self.directory / name).write_text(text)
        fresh = not (self.directory / "db" / "history").exists()
        if fresh:
            active = "".join(
                f"{group} 0000000000 0000000001 y\n"
                for group in sorted({"control", "control.cancel", "junk", *self._groups})
            )
            (self.directory / "db" / "active").write_text(active)
            (self.directory / "db" / "active.times").touch()
            (self.directory / "db" / "newsgroups").touch()
            (self.directory / "db" / "history").touch()
        self._give_to_account()
        if fresh:
            makedbz = [str(self._bin / "makedbz"), "-i", "-o", "-s", "200000"]
            _run(self._as_news(makedbz), cwd=self.directory, env=self._environment())

    def _give_to_account(self) -> None:
        if os.geteuid() == 0:
            for folder, _, names in os.walk(self.directory):
                for path in (folder, *(os.path.join(folder, name) for name in names)):
                    os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _copy_certificates(self) -> str:
        if not self._tls:
            return ""
        lines = []
        for key, source in zip(("tlscertfile", "tlskeyfile"), self._tls, strict=True):
            target = self.directory / "etc" / f"{key}.pem"
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            lines.append(f"{key}: {target}\n")
        return "".join(lines)

    def _files(self, certificates: str) -> dict[str, str]:
        name = self._account.pw_name
        paths = "".join(f"{key}: {self.directory / path}\n" for key, path in _PATHS.items())
        return {
            "etc/inn.conf": _INN_CONF.format(
                port=self.port,
                host=HOST,
                user=name,
                group=_group_name(self._account.pw_gid),
                max_article=self._max_article,
                pathnews=self._prefix / "usr/lib/news",
                paths=paths,
            )
            + certificates,
            "etc/readers.conf": self._readers(),
            "etc/passwd": "".join(f"{user}:{_crypt(word)}\n" for user, word in self._users.items()),
            "etc/storage.conf": "method tradspool {\n    newsgroups: *\n    class: 0\n}\n",
            "etc/newsfeeds": "ME:*,!junk/!local::\n",
            "etc/incoming.conf": (
                "streaming: true\nmax-connections: 50\n"
                f'peer tester {{\n    hostname: "{PEER_ADDRESS}"\n}}\n'
            ),
            "etc/expire.ctl": "/remember/:11\n*:A:never:never:never\n",
            "etc/control.ctl": "all:*:*:drop\n",
            "etc/moderators": "",
            "etc/distrib.pats": "",
            "etc/nnrpd.track": "",
            "etc/subscriptions": "",
        }

    def _readers(self) -> str:
        hosts = f'    hosts: "{HOST}, stdin"\n'
        if self._users:
            check = f'    auth: "ckpasswd -f {self.directory / "etc" / "passwd"}"\n'
            auth = f'auth "users" {{\n{hosts}{check}}}\n'
        else:
            auth = f'auth "local" {{\n{hosts}    default: "<local>"\n}}\n'
        access = '    users: "*"\n    newsgroups: "*"\n    access: "RPI"\n'
        return f'{auth}access "all" {{\n{access}}}\n'


_INN_CONF: Final = """\
mta: "/bin/true"
organization: "private"
domain: inn.test
pathhost: inn.test
port: {port}
nnrpdpostport: {port}
bindaddress: {host}
bindaddress6: "::1"
runasuser: {user}
runasgroup: {group}
hismethod: hisv6
ovmethod: tradindexed
maxartsize: {max_article}
localmaxartsize: {max_article}
maxconnections: 100
nnrpdloadlimit: 0
doinnwatch: false
pgpverify: false
nicennrpd: 0
nicekids: 0
htmlstatus: false
logstatus: false
pathnews: {pathnews}
pathbin: {pathnews}/bin
pathcontrol: {pathnews}/bin/control
{paths}"""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _account() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    if shutil.which("setpriv") is None:
        raise InnError("setpriv (package util-linux) is missing, and INN does not run as root")
    try:
        return pwd.getpwnam(RUN_AS)
    except KeyError:
        raise InnError(f"there is no user {RUN_AS!r}, and INN does not run as root") from None


def _group_name(gid: int) -> str:
    import grp

    return grp.getgrgid(gid).gr_name


def _crypt(password: str) -> str:
    """A crypt(3) hash for ``ckpasswd``; INN links the same library. Few rounds: it is a test."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = f"$5$rounds=1000${secrets.token_hex(8)}$"
    hashed = library.crypt(password.encode(), salt.encode())
    if not isinstance(hashed, bytes):
        raise InnError("crypt(3) gave no hash")
    return hashed.decode()


# --- command line --------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list_packages:
        print(" ".join(SYSTEM_PACKAGES))
        return 0
    users = {}
    if options.user is not None:
        if options.password_file is None:
            _fail("--user needs --password-file")
        users[options.user] = options.password_file.read_text().rstrip("\n")
    try:
        if options.prepare:
            print(prepare())
            return 0
        if options.dir is None:
            _fail("--dir is needed")
        inn = PrivateInn(
            options.dir, port=options.port, users=users, max_article=options.max_article
        )
        with _until_told_to_stop() as stopped, inn:
            print(f"{inn.host}:{inn.port}", flush=True)
            stopped.wait()
    except (InnError, OSError) as error:
        _fail(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a private INN news server on loopback.")
    parser.add_argument("--dir", type=Path, help="directory of this server, made when missing")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--user", help="readers must log in with this name")
    parser.add_argument("--password-file", type=Path, help="the first line is the password")
    parser.add_argument("--max-article", type=int, default=DEFAULT_MAX_ARTICLE, help="octets")
    parser.add_argument("--prepare", action="store_true", help="only fetch the packages")
    parser.add_argument("--list-packages", action="store_true", help="system libraries it needs")
    return parser


@contextlib.contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    """An event set by SIGTERM, SIGINT, or the end of standard input."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    def watch_input() -> None:
        while os.read(0, 4096):
            continue
        stopped.set()

    threading.Thread(target=watch_input, daemon=True).start()
    yield stopped


def _fail(reason: str) -> NoReturn:
    print(f"private_inn: {reason}", file=sys.stderr)
    raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
