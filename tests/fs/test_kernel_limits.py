"""Raising what the kernel allows a mount: only upwards, only where it may, never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from usenetfs.fs.kernel_limits import MAX_BACKGROUND, raise_kernel_limits, read_ahead_kib

BLOCK = 716_800


def make_sysfs(tmp_path: Path, device: int, read_ahead: int, background: int) -> dict[str, Path]:
    bdi = tmp_path / "class" / "bdi" / f"{os.major(device)}:{os.minor(device)}"
    fuse = tmp_path / "fs" / "fuse" / "connections" / str(os.minor(device))
    bdi.mkdir(parents=True)
    fuse.mkdir(parents=True)
    files = {
        "read_ahead": bdi / "read_ahead_kb",
        "background": fuse / "max_background",
        "congestion": fuse / "congestion_threshold",
    }
    files["read_ahead"].write_text(f"{read_ahead}\n")
    files["background"].write_text(f"{background}\n")
    files["congestion"].write_text("9\n")
    return files


def test_the_limits_of_the_mounted_device_are_raised(tmp_path: Path) -> None:
    files = make_sysfs(tmp_path, tmp_path.stat().st_dev, 128, 12)
    written = raise_kernel_limits(tmp_path, BLOCK, sysfs=tmp_path)
    assert sorted(written) == sorted(map(str, files.values()))
    assert files["read_ahead"].read_text() == "700"
    assert files["background"].read_text() == str(MAX_BACKGROUND)


@pytest.mark.parametrize(
    ("block", "kib"),
    [
        (716_800, 700),
        (1 << 20, 1024),
        (2 << 20, 1024),
        (4 * 716_800, 700),
        (3 * 716_800, 700),
        (700_000, 1024),
        (4096, 1024),
        (65_536, 1024),
        (300 * 4096, 600),
    ],
)
def test_requests_end_where_blocks_end_if_pages_allow(block: int, kib: int) -> None:
    assert read_ahead_kib(block) == kib


def test_nothing_is_lowered(tmp_path: Path) -> None:
    files = make_sysfs(tmp_path, tmp_path.stat().st_dev, 16_384, 500)
    written = raise_kernel_limits(tmp_path, BLOCK, sysfs=tmp_path)
    assert written == [str(files["congestion"])]
    assert files["read_ahead"].read_text() == "16384\n"


def test_where_nothing_is_allowed_nothing_happens(tmp_path: Path) -> None:
    assert raise_kernel_limits(tmp_path, BLOCK, sysfs=tmp_path / "nowhere") == []
    assert raise_kernel_limits(tmp_path / "nothing mounted", BLOCK, sysfs=tmp_path) == []


def test_what_is_no_number_is_left_alone(tmp_path: Path) -> None:
    files = make_sysfs(tmp_path, tmp_path.stat().st_dev, 128, 12)
    files["read_ahead"].write_text("a lot")
    raise_kernel_limits(tmp_path, BLOCK, sysfs=tmp_path)
    assert files["read_ahead"].read_text() == "a lot"
