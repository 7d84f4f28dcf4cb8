"""The web page in a real browser: Debian's Chromium, without a window, driven by Playwright.

One browser and one server for all of them; what a missing Chromium does is fail.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.control.test_api import FakeDaemon
from tests.status_reports import BUSY, figures
from usenetfs.config.units import human_duration, human_size
from usenetfs.control.app import DaemonFacade
from usenetfs.control.model import (
    HistoryReport,
    RecentError,
    Sample,
    StatusReport,
    TransferReport,
)
from usenetfs.control.serving import listen_on, serve_port

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TOKEN = "0123456789abcdef" * 4
HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\u202egnp.exe"


class Daemon(FakeDaemon):
    """Says what the test wants it to."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.report = BUSY
        self.broken = False

    async def status(self) -> StatusReport:
        await trio.lowlevel.checkpoint()
        return replace(self.report, time=time.time())

    async def history(self) -> HistoryReport:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise ValueError("events do not work")
        now = time.time()
        samples = [
            Sample(now - 120 + n, 5e6 + 4e6 * math.sin(n / 9), 1e6, 20 + n % 30, 10**9)
            for n in range(120)
        ]
        return HistoryReport(samples=tuple(samples))


class Site:
    """The page served from a thread of its own."""

    def __init__(self) -> None:
        self.daemon = Daemon()
        self.listener = listen_on("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.link = f"{self.address}#token={TOKEN}"
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:

                async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                    facade = cast(DaemonFacade, self.daemon)
                    await serve_port(
                        facade,
                        self.listener,
                        token=TOKEN,
                        task_status=task_status,
                    )

                await nursery.start(serve)
                self._ready.set()

    def stop(self) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(10)
        self.listener.close()


@pytest.fixture(scope="module")
def the_site() -> Iterator[Site]:
    site = Site()
    site.start()
    yield site
    site.stop()


@pytest.fixture
def site(the_site: Site) -> Site:
    the_site.daemon.reset()
    return the_site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert chromium, "the tests of the page need Chromium: apt-get install chromium"
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


def opened(context: BrowserContext, site: Site) -> tuple[Page, list[str]]:
    """The page, showing something, and what goes wrong with it from now on."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((site.address, "data:")) else wrong.append(asked.url)
        ),
    )
    page.goto(site.link)
    expect(page.locator("#page")).to_be_visible()
    return page, wrong


def shown(page: Page) -> dict[str, str]:
    """What the page says, by key."""
    read = "each => each.map(one => [one.dataset.key, one.textContent])"
    found: dict[str, str] = dict(page.locator("[data-key]").evaluate_all(read))
    return found


def test_it_shows_the_numbers_of_the_status(context: BrowserContext, site: Site) -> None:
    page, wrong = opened(context, site)
    s, said = BUSY, shown(page)
    server = s.servers[0]
    expected = {
        "name": s.name,
        "state": s.state,
        "upload.now": f"{human_size(s.upload.now)}/s",
        "upload.average": f"{human_size(s.upload.average)}/s on average, "
        f"{human_size(s.upload.total_bytes)} in all",
        "download.now": f"{human_size(s.download.now)}/s",
        "files": f"{s.files:,}",
        "directories": f"{s.directories:,}",
        "bytes": human_size(s.bytes),
        "checkpoint.pending_changes": f"{s.checkpoint.pending_changes:,} changes, "
        f"{s.checkpoint.held_files:,} files held",
        "uploads.blocks_uploaded": f"{s.uploads.blocks_uploaded:,}",
        "uploads.blocks_linked": f"{s.uploads.blocks_linked:,}",
        "cache.bytes": f"{human_size(s.cache.bytes)} of {human_size(s.cache.max_bytes)}",
        "cache.articles": f"{s.cache.articles:,}",
        "process.memory_bytes": human_size(s.process.memory_bytes),
        f"servers.{server.name}.state": server.state,
        f"servers.{server.name}.health": f"{100 * server.health:.0f} %",
        f"servers.{server.name}.connections": f"{server.busy}/{server.open}/{server.limit}",
        f"servers.{server.name}.latency_ms": f"{server.latency_ms:.0f} ms",
        f"servers.{server.name}.errors": f"{server.errors:,}",
    }
    for state in ("staged", "posted", "seen", "verified"):
        amount = getattr(s.durability, state)
        expected[f"durability.{state}.bytes"] = human_size(amount.bytes)
        expected[f"durability.{state}.blocks"] = f"{amount.blocks:,}"
    for queue in s.queues:
        of = "" if queue.capacity is None else f" / {queue.capacity:,}"
        expected[f"queues.{queue.name}"] = f"{queue.depth:,}{of}"
    assert {key: said.get(key) for key in expected} == expected
    text = page.locator("#page").inner_text()
    assert page.title() == f"{human_size(s.pending_bytes)} left · photos"
    assert s.time_left is not None
    assert f"{human_size(s.pending_bytes)} not safe yet" in text
    assert f"about {human_duration(s.time_left)} left" in text
    for error in s.recent_errors:
        assert error.message in text
        assert error.hint is None or error.hint in text
    for transfer in s.transfers:
        assert transfer.path in text
    assert wrong == []


def test_it_shows_what_the_command_and_the_watch_view_show(
    context: BrowserContext, site: Site
) -> None:
    """Those are in tests/cli/test_status_screen.py."""
    page, _ = opened(context, site)
    text = " ".join(page.locator("#page").inner_text().split())
    missing = [figure for figure in figures(BUSY.to_json()) if figure not in text]
    assert missing == []


def test_the_token_does_not_stay_in_the_address(context: BrowserContext, site: Site) -> None:
    page, _ = opened(context, site)
    assert page.url == site.address
    page.reload()
    expect(page.locator("#page")).to_be_visible()


def test_it_is_live(context: BrowserContext, site: Site) -> None:
    page, wrong = opened(context, site)
    expect(page.locator("#link")).to_have_text("live")
    before = page.locator("#speeds path").count()
    assert before == 4  # two lines and what is below them, from the history
    site.daemon.report = replace(BUSY, files=1_234_567)
    expect(page.locator("[data-key=files]")).to_have_text("1,234,567")
    assert wrong == []


def test_names_are_text_whatever_is_in_them(context: BrowserContext, site: Site) -> None:
    error = RecentError(time.time(), "network", HOSTILE, HOSTILE)
    server = replace(BUSY.servers[0], name=HOSTILE, last_error=HOSTILE)
    site.daemon.report = replace(
        BUSY,
        name=HOSTILE,
        mountpoint=HOSTILE,
        transfers=(TransferReport(f"/{HOSTILE}", "up", 10, 5, 1, HOSTILE),),
        recent_errors=(error,),
        servers=(server,),
        jobs=tuple(replace(job, name=HOSTILE) for job in BUSY.jobs),
        checkpoint=replace(BUSY.checkpoint, awaited_files=1, awaited=(HOSTILE,), fenced=HOSTILE),
    )
    page, wrong = opened(context, site)
    expect(page.locator("#transfers")).to_contain_text(HOSTILE)
    assert page.evaluate("window.pwned") is None
    assert page.locator("#page script, #page img").count() == 0
    assert wrong == []


def test_it_asks_for_the_token(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.goto(site.address)
    expect(page.locator("#ask")).to_be_visible()
    expect(page.locator("#page")).to_be_hidden()
    page.locator("#token").fill("wrong")
    page.locator("#ask button").click()
    expect(page.locator("#why")).to_contain_text("wrong")
    page.locator("#token").fill(f"  {site.link}")
    page.locator("#ask button").click()
    expect(page.locator("#page")).to_be_visible()


def test_where_events_do_not_come_it_asks(
    context: BrowserContext, site: Site, expect_log: Any
) -> None:
    expect_log("in the middle of its events")
    site.daemon.broken = True
    page, _ = opened(context, site)
    expect(page.locator("#link")).to_have_text("asking every 2 s")
    site.daemon.report = replace(BUSY, files=99)
    expect(page.locator("[data-key=files]")).to_have_text("99")


def test_a_daemon_that_stands_idle(context: BrowserContext, site: Site) -> None:
    site.daemon.report = StatusReport("photos", state="mounted", mountpoint="/home/me/photos")
    page, wrong = opened(context, site)
    expect(page.locator("#safe")).to_have_text("Everything is safe on the servers")
    expect(page.locator("#transfers")).to_have_text("Nothing is on its way.")
    expect(page.locator("#problems")).to_have_text("None.")
    assert wrong == []


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_sticks_out(context: BrowserContext, site: Site, width: int) -> None:
    long = "x" * 300
    site.daemon.report = replace(
        BUSY,
        mountpoint=f"/{long}",
        transfers=(TransferReport(f"/{long}/{long}", "up", 10**12, 10**11, 9, "post"),),
        recent_errors=(RecentError(time.time(), "network", long, long, 1000),),
        servers=tuple(replace(server, last_error=long) for server in BUSY.servers),
    )
    page, _ = opened(context, site)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_dark_mode(context: BrowserContext, site: Site) -> None:
    page, _ = opened(context, site)
    read = "getComputedStyle(document.body).backgroundColor"
    colours = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.add(page.evaluate(read))
    assert len(colours) == 2


def test_numbers_are_said_as_by_the_commands(context: BrowserContext, site: Site) -> None:
    page, _ = opened(context, site)
    octets = [0, 1, 999, 1000, 9_994, 9_996, 99_940, 123_456, 10**6, 10**9 - 1, 5 * 10**15]
    said = page.evaluate("many => many.map(size)", octets)
    assert said == [human_size(each) for each in octets]
    seconds = [0.0012, 0.5, 1, 9.94, 10, 59, 60, 3599, 3600, 86_399, 86_400, 10**7]
    said = page.evaluate("many => many.map(duration)", seconds)
    assert said == [human_duration(each) for each in seconds]
