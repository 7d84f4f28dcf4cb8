"""Every fault plan, alone and in mixtures; see ``campaign.py``. The whole of it is ``slow``."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transfer.campaign import run_dead_ends, run_plan
from tests.transfer.fault_plans import DEAD_ENDS, LOSES_ARTICLES, PLANS, mixture
from usenetfs.nntpd.faults import Action, parse_plan

FEW, MANY = 30, 2000
MIXTURES = 20
ANNOUNCED = (
    "posting failed|was rejected|given up for|did not appear|gave a wrong article|is not ours"
    "|is damaged"
)

ExpectLog = Callable[[str], None]


@pytest.fixture(autouse=True)
def _faults_are_logged(expect_log: ExpectLog) -> None:
    expect_log(ANNOUNCED)


def test_every_action_is_in_a_plan() -> None:
    used = {rule.action for text in PLANS.values() for rule in parse_plan(text).rules}
    assert used == set(Action)


@pytest.mark.parametrize("name", PLANS)
async def test_each_plan_alone(name: str, tmp_path: Path) -> None:
    report = await run_plan(
        name, PLANS[name], articles=FEW, seed=1, folder=tmp_path, loses=name in LOSES_ARTICLES
    )
    assert report.stored == FEW
    assert report.faults, "the plan did nothing"


@pytest.mark.parametrize("seed", [11, 12, 13])
async def test_mixtures_of_three(seed: int, tmp_path: Path) -> None:
    await _mixture(seed, FEW, tmp_path)


@pytest.mark.timeout(200)
async def test_dead_ends_are_said_and_nothing_hangs(tmp_path: Path) -> None:
    reports = await run_dead_ends(list(DEAD_ENDS), 1, tmp_path)
    assert len(reports) == len(DEAD_ENDS)
    assert all(report.errors for report in reports)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PLANS)
async def test_two_thousand_articles_under_each_plan(name: str, tmp_path: Path) -> None:
    loses = name in LOSES_ARTICLES
    report = await run_plan(name, PLANS[name], articles=MANY, seed=2, folder=tmp_path, loses=loses)
    print(report.line())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(MIXTURES))
async def test_two_thousand_articles_under_random_mixtures(number: int, tmp_path: Path) -> None:
    await _mixture(random.SystemRandom().randrange(1 << 32), MANY, tmp_path)


async def _mixture(seed: int, articles: int, folder: Path) -> None:
    name, text = mixture(seed)
    print(f"again: python -m tests.transfer.campaign --mixture {seed} --articles {articles}")
    loses = any(plan in name for plan in LOSES_ARTICLES)
    report = await run_plan(name, text, articles=articles, seed=seed, folder=folder, loses=loses)
    print(report.line())
