"""Line numbers of keys."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from usenetfs.config.toml_lines import locate_keys

TEXT = '''\
# a comment with a [header] in it
data_dir = "/srv"

[[servers]]
name = "one"   # [not a header]
"host" = "a = b"

[[servers]]
name = """
host = "inside a string"
[also]
"""
tls.mode = true

[posting]
groups = [
  "alt.binaries.test",  # host = 1
  "a]b",
]
rules = [{ pattern = "*.x" }]

[cache]
max_size = 1
'''


def test_every_key_has_its_line() -> None:
    tomllib.loads(TEXT)
    assert locate_keys(TEXT) == {
        ("data_dir",): 2,
        ("servers", 0): 4,
        ("servers", 0, "name"): 5,
        ("servers", 0, "host"): 6,
        ("servers", 1): 8,
        ("servers", 1, "name"): 9,
        ("servers", 1, "tls"): 13,
        ("servers", 1, "tls", "mode"): 13,
        ("posting",): 15,
        ("posting", "groups"): 16,
        ("posting", "rules"): 20,
        ("cache",): 22,
        ("cache", "max_size"): 23,
    }


def test_tables_within_elements_belong_to_the_last_one() -> None:
    text = "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n"
    assert {path: line for path, line in locate_keys(text).items() if path[-1] == "x"} == {
        ("a", 0, "b", 0, "x"): 3,
        ("a", 0, "b", 1, "x"): 5,
        ("a", 1, "b", 0, "x"): 8,
    }


@given(st.text(alphabet="[]{}\"'=.#\\\n ab1", max_size=80))
def test_any_text_is_survived(text: str) -> None:
    locate_keys(text)
