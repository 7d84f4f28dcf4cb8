"""Who goes next."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from usenetfs.net.lanes import OVERDUE_SHARE, PATIENCE, LaneQueue
from usenetfs.types import Lane


@dataclass(eq=False)
class Item:
    lane: Lane
    share: Hashable = None
    queued_at: float = 0.0


def taken(queue: LaneQueue[Item], now: float = 0.0) -> list[Item]:
    out = []
    while (item := queue.pop(now, lambda _: True)) is not None:
        out.append(item)
    return out


def test_lower_lanes_go_first_and_equals_in_order() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    items = [Item(lane) for lane in (Lane.VERIFY, Lane.UPLOAD, Lane.READER, Lane.UPLOAD)]
    for item in items:
        queue.push(item)
    assert repr(queue) == "<LaneQueue {'reader': 1, 'upload': 2, 'verify': 1}>"
    assert taken(queue) == [items[2], items[1], items[3], items[0]]


def test_readers_share_a_lane_whoever_asks_for_more() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    for _ in range(10):
        queue.push(Item(Lane.READER, share="greedy"))
    for _ in range(2):
        queue.push(Item(Lane.READER, share="modest"))
    assert [item.share for item in taken(queue)][:4] == ["greedy", "modest", "greedy", "modest"]


def test_one_in_eight_may_be_overdue() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    for _ in range(40):
        queue.push(Item(Lane.READER))
        queue.push(Item(Lane.VERIFY))
    late = PATIENCE[Lane.VERIFY] + 1
    first = [item.lane for item in taken(queue, late)][: 3 * OVERDUE_SHARE]
    assert first.count(Lane.VERIFY) == 3
    assert Lane.VERIFY not in first[1:OVERDUE_SHARE]


def test_the_most_overdue_lane_goes_first() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    queue.push(Item(Lane.VERIFY))
    queue.push(Item(Lane.UPLOAD))
    queue.push(Item(Lane.READER))
    assert taken(queue, 16.0)[0].lane is Lane.UPLOAD


def test_what_is_not_allowed_stays_and_holds_up_no_other_lane() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    queue.push(Item(Lane.READER))
    upload = Item(Lane.UPLOAD)
    queue.push(upload)
    assert queue.pop(0.0, lambda item: item.lane is not Lane.READER) is upload
    assert queue.pop(0.0, lambda item: item.lane is not Lane.READER) is None
    assert len(queue) == 1
    assert queue.first_lane() is Lane.READER


def test_removing_and_putting_back() -> None:
    queue: LaneQueue[Item] = LaneQueue()
    first, second = Item(Lane.READER), Item(Lane.READER)
    queue.push(first)
    queue.push(second)
    assert queue.remove(first)
    assert not queue.remove(first)
    queue.push_front(first)
    assert queue.drain() == [first, second]
    assert len(queue) == 0
    assert queue.first_lane() is None
