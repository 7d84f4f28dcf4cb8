"""Settings that may be changed while mounted, for as long as the mount lasts, and what they do."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from usenetfs.config.models import UploadSection
from usenetfs.control.model import LimitsReport
from usenetfs.daemon.parts import Parts
from usenetfs.daemon.plain_values import MOST_POSTERS, upload_limits
from usenetfs.errors import ConfigurationError

KEYS: Final = (
    "upload.connections",
    "upload.quiet_hours",
    "upload.quiet_rate",
    "upload.rate",
)
UNSET: Final = frozenset({"", "none"})


class RuntimeSettings:
    """The limits in force."""

    def __init__(self, parts: Parts, upload: UploadSection) -> None:
        self._parts = parts
        self._upload = upload

    def set(self, key: str, value: str) -> LimitsReport:
        """``value`` as in the configuration file, or ``none``; ConfigurationError otherwise."""
        if key not in KEYS:
            raise ConfigurationError(
                f"{key} cannot be changed while mounted",
                hint=f"these can: {', '.join(KEYS)}; others in the configuration file",
            )
        name = key.partition(".")[2]
        changed = self._upload.model_dump()
        if value.strip().lower() in UNSET:
            changed[name] = UploadSection.model_fields[name].default
        else:
            changed[name] = value
        try:
            self._upload = UploadSection.model_validate(changed)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]
            said = reason.get("ctx", {}).get("error") or reason["msg"]
            raise ConfigurationError(f"{key}: {said}") from None
        self._apply()
        return self.report()

    def _apply(self) -> None:
        self._parts.posts.set_limits(upload_limits(self._upload))
        most = min(self._parts.providers.upload_connections, MOST_POSTERS)
        self._parts.uploader.flight.set_most(min(self._upload.connections or most, most))

    def report(self) -> LimitsReport:
        """What holds now."""
        upload = self._upload
        return LimitsReport(
            rate=upload.rate,
            quiet_hours=upload.quiet_hours,
            quiet_rate=upload.quiet_rate,
            connections=upload.connections,
            rate_now=self._parts.posts.rate,
        )
