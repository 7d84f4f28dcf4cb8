"""Of each file's names one is sent, and the others are linked to it."""

from __future__ import annotations

from usenetfs.trees.links import LinkGroup, Links


def test_others_wait_for_the_first_and_are_linked_then() -> None:
    group: LinkGroup[str, int] = LinkGroup(3)
    assert [group.must_wait(name) for name in ("a", "b", "c")] == [False, True, True]
    assert group.tried(7) == ["b", "c"]
    assert (group.placed, group.must_wait("d")) == (7, False)


def test_where_the_first_fails_the_next_is_sent_and_the_rest_still_wait() -> None:
    group: LinkGroup[str, int] = LinkGroup(4)
    assert [group.must_wait(name) for name in ("a", "b", "c")] == [False, True, True]
    assert group.tried(None) == ["b"]
    assert group.must_wait("d"), "b is being sent"
    assert group.tried(8) == ["c", "d"]
    assert group.tried(8) == []


def test_without_a_retry_all_are_gone_through() -> None:
    group: LinkGroup[str, int] = LinkGroup(3)
    assert [group.must_wait(name) for name in ("a", "b", "c")] == [False, True, True]
    assert group.tried(None, retry=False) == ["b", "c"]


def test_a_link_that_fails_does_not_make_the_others_forget_where_the_file_is() -> None:
    group: LinkGroup[str, int] = LinkGroup(3)
    assert not group.must_wait("a")
    assert group.tried(7) == []
    assert not group.must_wait("b")
    assert group.tried(None) == []
    assert (group.placed, group.must_wait("c")) == (7, False)


def test_a_group_is_forgotten_when_all_its_names_were_met() -> None:
    links: Links[str, int] = Links()
    assert links.meet("file", 1) is None
    first = links.meet("file", 2)
    assert links.meet("file", 2) is first
    assert len(links) == 0
