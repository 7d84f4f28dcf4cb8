"""From ``[network]`` and ``[network.retry.KIND]`` to the policies that the daemon goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from usenetfs.config.loader import load
from usenetfs.config.models import Settings
from usenetfs.daemon.plain_values import make_retries
from usenetfs.errors import ConfigurationError
from usenetfs.net.retry import RetryPolicy, Strategy

HERE = {"USENETFS_SYSTEM_CONFIG": "/nonexistent"}


def settings(tmp_path: Path, text: str = "", **environment: str) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(config_file=file, environment=HERE | environment).settings


def test_the_defaults(tmp_path: Path) -> None:
    manager = make_retries(settings(tmp_path))
    default = RetryPolicy(Strategy.EXPONENTIAL, retries=5, first=1.0, ceiling=60.0, jitter=0.25)
    assert manager.policy == manager.policy_of("anything else") == default
    endless = RetryPolicy(Strategy.EXPONENTIAL, retries=None, first=1.0, ceiling=60.0, jitter=0.25)
    for kind in ("connect", "fetch", "post", "stat"):
        assert manager.policy_of(kind) == endless


def test_each_kind_changes_what_it_says_and_no_more(tmp_path: Path) -> None:
    text = """
[network]
retries = 3
retry_strategy = "linear"
retry_delay = "2 s"
retry_jitter = 0

[network.retry.post]
strategy = "fibonacci"
retries = 40
max_delay = "10 min"

[network.retry.connect]
delay = "500 ms"
"""
    manager = make_retries(settings(tmp_path, text, USENETFS_NETWORK__RETRY__FETCH__RETRIES="7"))
    assert manager.policy == RetryPolicy(Strategy.LINEAR, 3, 2.0, 60.0, 0.0)
    assert manager.policy_of("post") == RetryPolicy(Strategy.FIBONACCI, 40, 2.0, 600.0, 0.0)
    assert manager.policy_of("connect") == RetryPolicy(Strategy.LINEAR, None, 0.5, 60.0, 0.0)
    assert manager.policy_of("fetch") == RetryPolicy(Strategy.LINEAR, 7, 2.0, 60.0, 0.0)
    assert manager.policy_of("stat") == RetryPolicy(Strategy.LINEAR, None, 2.0, 60.0, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[network.retry.psot]\nretries = 1", "post"),
        ("[network.retry.post]\nretires = 1", "retries"),
        ("[network.retry.post]\nstrategy = 'random'", "fibonacci"),
        ("[network.retry.post]\njitter = 2", "at most 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settings(tmp_path, text)
