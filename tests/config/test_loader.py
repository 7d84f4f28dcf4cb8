"""The five sources, and what is said when one of them is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from usenetfs.config.loader import LoadedSettings, load
from usenetfs.config.models import Settings
from usenetfs.errors import ConfigurationError

Loader = Callable[..., LoadedSettings]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose user file and system file can be written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "user/usenetfs").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def loader(home: Path) -> Loader:
    """``load`` with the files of ``home``; keywords: user, system (texts), set, env."""

    def run(
        *, user: str = "", system: str = "", given: tuple[str, ...] = (), **environment: str
    ) -> LoadedSettings:
        (home / "user/usenetfs/config.toml").write_text(user)
        (home / "system.toml").write_text(system)
        variables = {"USENETFS_SYSTEM_CONFIG": str(home / "system.toml"), **environment}
        return load(assignments=given, environment=variables)

    return run


SYSTEM = '[cache]\nmax_size = "1 MiB"\nmin_free = "1 MiB"\nmemory_size = "1 MiB"\n'
USER = '[cache]\nmax_size = "2 MiB"\nmin_free = "2 MiB"\n[staging]\nmax_size = "32 MiB"\n'


def test_each_source_overrides_the_next(loader: Loader, home: Path) -> None:
    loaded = loader(
        system=SYSTEM,
        user=USER,
        given=("staging.max_size=64 MiB",),
        USENETFS_CACHE__MAX_SIZE="3 MiB",
        USENETFS_STAGING__MAX_SIZE="48 MiB",
    )
    settings, mib = loaded.settings, 1024**2
    assert settings.staging.max_size == 64 * mib
    assert settings.cache.max_size == 3 * mib
    assert settings.cache.min_free == 2 * mib
    assert settings.cache.memory_size == 1 * mib
    assert settings.staging.settle == Settings().staging.settle
    assert {
        "staging.max_size": loaded.origin(("staging", "max_size")),
        "cache.max_size": loaded.origin(("cache", "max_size")),
        "cache.min_free": loaded.origin(("cache", "min_free")),
        "cache.memory_size": loaded.origin(("cache", "memory_size")),
        "staging.settle": loaded.origin(("staging", "settle")),
    } == {
        "staging.max_size": "--set staging.max_size",
        "cache.max_size": "USENETFS_CACHE__MAX_SIZE",
        "cache.min_free": f"{home}/user/usenetfs/config.toml:3",
        "cache.memory_size": f"{home}/system.toml:4",
        "staging.settle": "default",
    }


def test_without_any_source_there_are_the_defaults(loader: Loader) -> None:
    loaded = loader()
    assert loaded.settings.model_dump() == Settings().model_dump()
    assert {place for _, _, place in loaded.values()} == {"default"}


def test_what_is_shown_reads_back(loader: Loader) -> None:
    shown = {
        ".".join(map(str, path)): value for path, value, _ in loader(user=USER).values() if value
    }
    again = loader(given=tuple(f"{key}={value}" for key, value in shown.items()))
    assert again.settings.model_dump() == loader(user=USER).settings.model_dump()


def test_a_given_file_replaces_the_users(loader: Loader, home: Path) -> None:
    loader(user=USER)
    other = home / "other.toml"
    other.write_text('[cache]\nmax_size = "9 MiB"\n')
    settings = load(config_file=other, environment={}).settings
    assert settings.cache.max_size == 9 * 1024**2
    assert settings.staging.max_size == Settings().staging.max_size


def test_servers_and_lists_in_the_environment(loader: Loader) -> None:
    settings = loader(
        USENETFS_SERVERS='[{"name": "a", "host": "h", "tls": false}]',
        USENETFS_POSTING__GROUPS="alt.binaries.test, alt.test",
        USENETFS_LOG_FORMAT="json",
    ).settings
    assert [(s.name, s.effective_port) for s in settings.servers] == [("a", 119)]
    assert settings.posting.groups == ("alt.binaries.test", "alt.test")
    assert settings.log.format == "json"


def test_variables_of_others_are_left_alone(loader: Loader) -> None:
    settings = loader(USENETFS_BENCH_ROUNDS="3", USENETFS_PASSPHRASE="x").settings
    assert settings.model_dump() == Settings().model_dump()


def test_forms_of_a_server(loader: Loader) -> None:
    pin = ":".join(["AB"] * 32)
    text = (
        '[[servers]]\nname = "a"\nhost = "h"\ntls = "starttls"\nca_file = "~/ca.pem"\n'
        f'[[servers]]\nname = "b"\nhost = "h"\npin = "{pin}"\n'
    )
    first, second = loader(user=text).settings.servers
    assert (first.tls, first.effective_port) == ("starttls", 119)
    assert first.ca_file == Path("~/ca.pem").expanduser()
    assert (second.tls, second.effective_port, second.pin) == ("implicit", 563, "ab" * 32)


SERVER = '[[servers]]\nname = "a"\nhost = "h"\n'

WRONG = {
    "unknown section": ("[cahce]\n", '1: cahce: unknown key; did you mean "cache"?'),
    "unknown key": (
        '[cache]\nmax_sise = "1 GiB"\n',
        '2: cache.max_sise: unknown key; did you mean "cache.max_size"?',
    ),
    "unknown key unlike any": (
        "[cache]\nzzz = 1\n",
        "2: cache.zzz: unknown key; known here: max_size, memory_size, min_free",
    ),
    "unknown key of a server": (
        f"{SERVER}conections = 20\n",
        '4: servers[1].conections: unknown key; did you mean "servers[1].connections"?',
    ),
    "password": (
        f'{SERVER}password = "secret"\n',
        "4: servers[1].password: passwords do not belong in configuration",
    ),
    "size": (
        '[cache]\nmax_size = "20 GiBs"\n',
        '2: cache.max_size: "20 GiBs" is not a size; write "20 GiB"',
    ),
    "size of another type": ("[cache]\nmax_size = true\n", "2: cache.max_size: True is not a size"),
    "negative size": ("[cache]\nmax_size = -5\n", "2: cache.max_size: -5 is not a size"),
    "too little": (
        '[staging]\nmax_size = "1 MiB"\n',
        "2: staging.max_size: 1 MiB is too little; at least 16 MiB",
    ),
    "too much": (
        '[keys]\nmemory = "5 GiB"\n',
        "2: keys.memory: 5 GiB is too much; at most 4 GiB",
    ),
    "duration": (
        '[checkpoint]\ninterval = "half an hour"\n',
        '2: checkpoint.interval: "half an hour" is not a duration; write "30 s"',
    ),
    "duration out of range": (
        '[checkpoint]\ninterval = "1 ms"\n',
        "2: checkpoint.interval: 1 ms is out of range; 1 s to 1 d",
    ),
    "port": (f"{SERVER}port = 99999\n", "4: servers[1].port: 99999 is out of range"),
    "port of another type": (
        f'{SERVER}port = "nntps"\n',
        '4: servers[1].port: "nntps" is not a whole number',
    ),
    "connections": (
        f"{SERVER}connections = 0\n",
        "4: servers[1].connections: 0 is out of range; it must be at least 1",
    ),
    "tls": (
        f'{SERVER}tls = "ssl"\n',
        "4: servers[1].tls: \"ssl\" is not one of 'implicit', 'starttls' or 'none'",
    ),
    "pin": (f'{SERVER}pin = "abc"\n', "4: servers[1].pin: must be the SHA-256 of the certificate"),
    "missing host": ('[[servers]]\nname = "a"\n', "1: servers[1].host: is missing"),
    "empty host": ('[[servers]]\nname = "a"\nhost = ""\n', "3: servers[1].host: must not be empty"),
    "name": (
        '[[servers]]\nname = "a b"\nhost = "h"\n',
        '2: servers[1].name: "a b" has characters that are not allowed here',
    ),
    "two servers of one name": (f"{SERVER}{SERVER}", 'two servers are called "a"'),
    "servers as a table": ('[servers]\nname = "a"\n', "1: servers: "),
    "section as a value": ("cache = 3\n", "1: cache: 3 is not a section with keys of its own"),
    "boolean": (
        f'{SERVER}posting = "maybe"\n',
        '4: servers[1].posting: "maybe" is not true or false',
    ),
    "newsgroup": (
        '[posting]\ngroups = ["alt binaries"]\n',
        '2: posting.groups[1]: "alt binaries" is not a newsgroup name',
    ),
    "groups of another type": (
        "[posting]\ngroups = 5\n",
        '2: posting.groups: 5 is not a list such as ["a", "b"]',
    ),
    "rule that says nothing": (
        '[[posting.rules]]\ngroups = ["a.b"]\n',
        "1: posting.rules[1]: needs a pattern, min_size or max_size",
    ),
    "rule that never applies": (
        '[[posting.rules]]\ngroups = ["a.b"]\nmin_size = 5\nmax_size = 4\n',
        "1: posting.rules[1]: min_size is larger than max_size",
    ),
    "codec": (
        '[upload]\ncodec = "gzip"\n',
        "2: upload.codec: \"gzip\" is not one of 'zstd', 'lzma', 'zlib' or 'none'",
    ),
    "level of another codec": (
        '[upload]\ncodec = "lzma"\nlevel = 19\n',
        "1: upload: level 19 is none of lzma's: 0 to 9",
    ),
    "log level": ('[log]\nupload = "loud"\n', '2: log.upload: "loud" is not one of'),
    "path": ("data_dir = 5\n", "1: data_dir: 5 is not a path in quotes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_explained_with_its_line(loader: Loader, home: Path, case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(ConfigurationError) as caught:
        loader(user=text)
    file = str(home / "user/usenetfs/config.toml")
    if not message[0].isdigit():
        assert message in str(caught.value)
    else:
        assert str(caught.value).startswith(f"{file}:{message}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("USENETFS_CACHE__MAX_SIZE", "much", "USENETFS_CACHE__MAX_SIZE: cache.max_size: "),
        ("USENETFS_CAHCE__MAX_SIZE", "1", "USENETFS_CAHCE__MAX_SIZE: cahce: unknown key; did you"),
        (
            "USENETFS_DATA_DIRS",
            "/x",
            'USENETFS_DATA_DIRS: data_dirs: unknown key; did you mean "data_dir"',
        ),
        (
            "USENETFS_SERVERS",
            "[{",
            "USENETFS_SERVERS: starts like a JSON list or table and is none",
        ),
        ("USENETFS_SERVERS", '[{"name": "a"}]', "USENETFS_SERVERS: servers[1].host: is missing"),
        ("USENETFS_LOG_FORMAT", "xml", "USENETFS_LOG_FORMAT: log.format: "),
    ],
)
def test_a_wrong_variable_is_named(loader: Loader, name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loader(**{name: value})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("cache.max_size", '--set "cache.max_size": is not of the form KEY=VALUE'),
        ("=5", '--set "=5": is not of the form KEY=VALUE'),
        ("cache.max_size=x", "--set cache.max_size: cache.max_size: "),
        ("cache=5", "--set cache: cache: "),
    ],
)
def test_a_wrong_option_is_named(loader: Loader, assignment: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loader(given=(assignment,))
    assert str(caught.value).startswith(message)


def test_a_value_and_a_table_at_once(loader: Loader) -> None:
    with pytest.raises(ConfigurationError, match="both as a value and as a table"):
        loader(USENETFS_CACHE="5", USENETFS_CACHE__MAX_SIZE="5")


def test_several_problems_are_counted(loader: Loader) -> None:
    with pytest.raises(ConfigurationError, match=r"\(and 1 more\)$"):
        loader(user="[cache]\nmax_size = -1\nmin_free = -1\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[cache\n", "is not valid TOML"),
        (b"name = unquoted\n", "is not valid TOML"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load(config_file=file, environment={})
    assert str(caught.value).startswith(str(file))


def test_a_given_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        load(config_file=tmp_path / "none.toml", environment={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(config_file=tmp_path, environment={})
