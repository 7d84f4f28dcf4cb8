"""Where things are."""

from __future__ import annotations

from pathlib import Path

import pytest

from usenetfs.config.directories import Directories, find_directories
from usenetfs.errors import ConfigurationError, FilesystemNotFoundError, UsageError


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(tmp_path / "data", tmp_path / "cache")


def make(directories: Directories, name: str) -> None:
    paths = directories.filesystem(name)
    paths.data.mkdir(parents=True)
    paths.key_file.touch()


def test_the_files_of_a_filesystem(tmp_path: Path, directories: Directories) -> None:
    paths = directories.filesystem("photos")
    home = tmp_path / "data" / "photos"
    assert (paths.key_file, paths.index, paths.staging, paths.lock) == (
        home / "keys.json",
        home / "index.db",
        home / "staging",
        home / "lock",
    )
    assert paths.articles == tmp_path / "cache" / "photos" / "articles"
    assert directories.vault == tmp_path / "data" / "vault.json"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "-x", "a b", "é", "x" * 65])
def test_impossible_names(directories: Directories, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        directories.filesystem(name)


def test_finding_filesystems(directories: Directories) -> None:
    assert directories.names() == []
    with pytest.raises(FilesystemNotFoundError) as none:
        directories.only()
    assert none.value.hint == "make one with: usenetfs init NAME"
    make(directories, "photos")
    (directories.data / "empty").mkdir()
    assert directories.only().name == "photos"
    make(directories, "books")
    assert directories.names() == ["books", "photos"]
    assert directories.existing("books").name == "books"
    with pytest.raises(UsageError, match="several"):
        directories.only()
    with pytest.raises(FilesystemNotFoundError) as other:
        directories.existing("boks")
    assert other.value.hint == "there are: books, photos"


def test_the_sources_of_the_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    file = tmp_path / "c.toml"
    file.write_text('data_dir = "/srv/data"\ncache_dir = "~/cache"\n')
    nothing = {"USENETFS_SYSTEM_CONFIG": str(tmp_path / "none")}
    empty = tmp_path / "empty.toml"
    empty.touch()
    assert find_directories(config_file=empty, environment=nothing) == Directories(
        tmp_path / "share/usenetfs", tmp_path / "xdg-cache/usenetfs"
    )
    assert find_directories(config_file=file, environment=nothing) == Directories(
        Path("/srv/data"), Path("~/cache").expanduser()
    )
    variables = nothing | {"USENETFS_DATA_DIR": "relative", "USENETFS_CACHE_DIR": "/c"}
    assert find_directories(config_file=file, environment=variables) == Directories(
        Path.cwd() / "relative", Path("/c")
    )
    option = {"--data-dir": (("data_dir",), Path("/option"))}
    found = find_directories(config_file=file, environment=variables, options=option)
    assert found.data == Path("/option")


def test_a_directory_that_is_no_path(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("\ndata_dir = 5\n")
    with pytest.raises(ConfigurationError, match=f"^{file}:2: data_dir: 5 is not a path"):
        find_directories(config_file=file, environment={})
