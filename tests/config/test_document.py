"""``docs/configuration.md`` says what the models say."""

from __future__ import annotations

import re
from pathlib import Path

from usenetfs.config.models import RetrySection, RetrySections, RuleSection, ServerSection, Settings

TEXT = (Path(__file__).parents[2] / "docs/configuration.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Default by key, of the table below ``heading``."""
    section = TEXT.split(f"## `{heading}`")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))


def _written(default: object) -> str:
    """As the tables have it."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "none" if default is None else str(default)


def test_every_section_is_described_with_its_defaults() -> None:
    defaults = Settings().model_dump(mode="json")
    for name, section in defaults.items():
        if isinstance(section, dict) and name != "posting":
            expected = {k: _written(v) for k, v in section.items() if not isinstance(v, dict)}
            assert {k: v for k, v in rows(f"[{name}]").items() if k in expected} == expected
            for key, inner in section.items():
                assert not isinstance(inner, dict) or f"`[{name}.{key}." in TEXT
        else:
            assert name in TEXT


def test_servers_and_rules_are_described() -> None:
    assert set(rows("[[servers]]")) == set(ServerSection.model_fields)
    assert set(rows("[posting]")) == {"groups", "rules"}
    for key in RuleSection.model_fields | RetrySection.model_fields:
        assert f"`{key}`" in TEXT
    assert set(RetrySections.model_fields) < set(rows("[network]"))
