"""Settings taken apart: the plain values that constructors are given.

The one place where configuration meets what is configured. Pure: nothing is made here that runs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

from usenetfs.article.newsgroups import GroupRule, NewsgroupChoice
from usenetfs.config.models import RetrySection, Settings, UploadSection
from usenetfs.errors import ConfigurationError
from usenetfs.net.providers import ProviderSet
from usenetfs.net.retry import RetryManager, RetryPolicy, Strategy
from usenetfs.options import DaemonOptions
from usenetfs.transfer.upload.limits import QuietHours, UploadLimits
from usenetfs.transfer.upload.post_check import CheckTimes
from usenetfs.transfer.upload.settings import UploadSettings
from usenetfs.transfer.upload.sizing import first_workers
from usenetfs.types import Codec

MOST_POSTERS = 64
"""Articles posted at once, whatever the servers allow: each takes memory."""


def groups_of(options: DaemonOptions) -> NewsgroupChoice:
    """Where to post; who only looks posts nothing, and needs no groups."""
    if options.view is not None:
        return NewsgroupChoice(["alt.binaries.test"])
    return newsgroup_choice(options.settings)


def newsgroup_choice(settings: Settings) -> NewsgroupChoice:
    if not settings.posting.groups:
        raise ConfigurationError(
            "no newsgroup to post to is configured",
            hint='add to the configuration: [posting] groups = ["alt.binaries.test"]',
        )
    rules = [
        GroupRule(
            groups=rule.groups,
            patterns=() if rule.pattern is None else (rule.pattern,),
            min_size=rule.min_size,
            max_size=rule.max_size,
        )
        for rule in settings.posting.rules
    ]
    return NewsgroupChoice(settings.posting.groups, rules)


def make_retries(settings: Settings) -> RetryManager:
    """Policies by kind. Where nothing else is configured, data that is only here is posted for
    ever, and a fetch ends by the patience of who reads."""
    network = settings.network
    policy = RetryPolicy(
        strategy=Strategy(network.retry_strategy),
        retries=network.retries,
        first=network.retry_delay,
        ceiling=network.retry_max_delay,
        jitter=network.retry_jitter,
    )
    endless = replace(policy, retries=None)
    return RetryManager(
        policy,
        kinds={
            "connect": replace(_changed(policy, network.retry.connect), retries=None),
            "fetch": _changed(endless, network.retry.fetch),
            "post": _changed(endless, network.retry.post),
            "stat": replace(_changed(policy, network.retry.stat), retries=None),
        },
    )


def _changed(policy: RetryPolicy, section: RetrySection) -> RetryPolicy:
    """The policy with what the section gives."""
    return RetryPolicy(
        strategy=policy.strategy if section.strategy is None else Strategy(section.strategy),
        retries=policy.retries if section.retries is None else section.retries,
        first=policy.first if section.delay is None else section.delay,
        ceiling=policy.ceiling if section.max_delay is None else section.max_delay,
        jitter=policy.jitter if section.jitter is None else section.jitter,
    )


def upload_limits(upload: UploadSection) -> UploadLimits:
    """The settings as the gate of posts takes them."""
    hours = None if upload.quiet_hours is None else QuietHours.parse(upload.quiet_hours)
    return UploadLimits(upload.rate, hours, upload.quiet_rate)


def upload_settings(
    settings: Settings, providers: ProviderSet, retries: RetryManager
) -> UploadSettings:
    upload = settings.upload
    workers = upload.workers or first_workers(os.cpu_count() or 1)
    most = min(providers.upload_connections, MOST_POSTERS)
    return UploadSettings(
        codec=Codec[upload.codec.upper()],
        level=upload.level,
        workers=workers,
        posters=None if upload.connections is None else min(upload.connections, most),
        most_posters=most,
        staging_limit=settings.staging.max_size,
        check=CheckTimes(
            first=upload.check_delay,
            deadline=upload.check_timeout,
            verify=settings.staging.free_at == "verified",
            again=partial(retries.wait_after, "stat"),
        ),
    )
