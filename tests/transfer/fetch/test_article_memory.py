"""Which opened articles stay in memory."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from usenetfs.article.container import Container, Kind
from usenetfs.transfer.fetch.article_memory import ArticleMemory
from usenetfs.types import ArticleId

SIZE = 100


def container(size: int = SIZE) -> Container:
    return Container(Kind.DATA, (), (), memoryview(bytes(size)))


def fetched_by_a_reader(memory: ArticleMemory, ahead: int, articles: int) -> int:
    """Read so many articles in order with a window; how many had to be fetched."""
    fetches = 0
    asked: deque[int] = deque(range(articles))
    for number in range(articles):
        while asked and asked[0] <= number + ahead:
            memory.keep(ArticleId(asked.popleft()), container(), ahead=True)
            fetches += 1
        if memory.read(ArticleId(number)) is None:
            memory.keep(ArticleId(number), container(), ahead=False)
            fetches += 1
    return fetches


def test_a_reader_in_order_fetches_nothing_twice_however_far_it_is_ahead() -> None:
    for ahead in (1, 30, 46, 51):
        assert fetched_by_a_reader(ArticleMemory(70 * SIZE), ahead, 1000) == 1000


def test_what_is_read_again_and_again_stays() -> None:
    memory = ArticleMemory(10 * SIZE)
    hot = ArticleId(1)
    memory.keep(hot, container(), ahead=False)
    for number in range(2, 100):
        memory.keep(ArticleId(number), container(), ahead=False)
        assert memory.read(hot) is not None


def test_what_nobody_came_for_goes_and_leaves_room() -> None:
    memory = ArticleMemory(8 * SIZE)
    for number in range(20):
        memory.keep(ArticleId(number), container(), ahead=True)
    assert [number for number in range(20) if ArticleId(number) in memory] == [*range(14, 20)]
    for number in range(20, 40):
        memory.keep(ArticleId(number), container(), ahead=False)
    assert memory.currsize == 8 * SIZE
    assert ArticleId(39) in memory
    assert ArticleId(38) in memory


def test_an_article_that_is_too_large_is_not_kept_and_costs_nothing_else() -> None:
    memory = ArticleMemory(2 * SIZE)
    memory.keep(ArticleId(1), container(), ahead=False)
    memory.keep(ArticleId(2), container(3 * SIZE), ahead=False)
    memory.keep(ArticleId(3), container(2 * SIZE), ahead=True)
    assert memory.read(ArticleId(1)) is not None
    assert ArticleId(2) not in memory
    assert ArticleId(3) not in memory


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ahead", "keep", "read", "drop"]),
            st.integers(0, 15),
            st.integers(1, 300),
        )
    )
)
def test_the_bound_holds_and_what_comes_back_is_what_was_kept(
    steps: list[tuple[str, int, int]],
) -> None:
    memory = ArticleMemory(500)
    kept: dict[int, Container] = {}
    for step, number, size in steps:
        article = ArticleId(number)
        if step == "drop":
            memory.drop(article)
            assert article not in memory
        elif step == "read":
            found = memory.read(article)
            assert found is None or found is kept[number]
            assert (article in memory) == (found is not None)
        else:
            kept[number] = container(size)
            memory.keep(article, kept[number], ahead=step == "ahead")
        assert memory.currsize <= 500
    memory.clear()
    assert memory.currsize == 0
