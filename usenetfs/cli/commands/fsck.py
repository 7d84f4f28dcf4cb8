"""``usenetfs fsck``: compare the parts of an unmounted filesystem's index with one another."""

from __future__ import annotations

from dataclasses import dataclass

from usenetfs import lock
from usenetfs.cli import passphrase
from usenetfs.cli.context import Common
from usenetfs.cli.offline import open_index
from usenetfs.cli.output import note, say, say_json
from usenetfs.cli.progress import Line
from usenetfs.cli.unlock import Unlocked, unlock_filesystem
from usenetfs.config.directories import FilesystemPaths
from usenetfs.errors import IntegrityError, UsageError
from usenetfs.index.check import Finding
from usenetfs.index.index import Index
from usenetfs.store.staging import Staging
from usenetfs.types import InodeId

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome."""

    findings: tuple[Finding, ...]
    lost: tuple[str, ...]
    """Staged data that is missing; nothing local can mend that."""

    @property
    def unrepaired(self) -> int:
        return len(self.lost) + sum(not finding.repaired for finding in self.findings)


def run(
    common: Common, name: str, *, repair: bool, dry_run: bool, deep: bool, as_json: bool
) -> None:
    """Check ``name``; IntegrityError when something is wrong and was not repaired.

    ``dry_run`` is the name of the default, for who wants to be sure: UsageError with ``repair``.
    """
    if repair and dry_run:
        raise UsageError("--repair mends and --dry-run only reports: give one of them")
    paths = common.directories.existing(name)
    passphrases = passphrase.obtain(common, prompt=f"Passphrase for {name}", name=name)
    with lock.exclusive(paths.lock, name=name, purpose="being checked"):
        checked = check(paths, unlock_filesystem(paths, passphrases), repair=repair, deep=deep)
    if as_json:
        say_json(
            {
                "name": name,
                "unrepaired": checked.unrepaired,
                "findings": [
                    {"kind": f.kind.value, "text": f.text, "repaired": f.repaired}
                    for f in checked.findings
                ],
                "lost": list(checked.lost),
            }
        )
    else:
        for finding in checked.findings:
            say(f"{finding.text}{' (repaired)' if finding.repaired else ''}")
        for text in checked.lost:
            say(text)
    if checked.unrepaired:
        raise IntegrityError(
            f"{name}: {checked.unrepaired} problems were found",
            hint=None if repair else f"mend what can be mended: usenetfs fsck --repair {name}",
        )
    note(f"{name}: {'all problems were repaired' if checked.findings else 'no problem found'}.")


def check(paths: FilesystemPaths, unlocked: Unlocked, *, repair: bool, deep: bool) -> Checked:
    """Compare the index with itself and with the staging area; mend the index with ``repair``."""
    findings: list[Finding] = []
    with open_index(paths, unlocked, read_only=not repair) as index, Line() as line:
        for found in index.check_steps(repair=repair, deep=deep):
            findings = found
            line.show(f"{paths.name}: checking, {len(found)} problems so far")
        with Staging(paths.staging, block_size=index.identity.block_size) as staging:
            lost = _without_data(index, set(staging.inodes()))
    return Checked(tuple(findings), tuple(lost))


def _without_data(index: Index, present: set[InodeId]) -> list[str]:
    """Files of which the index says that they are staged, and nothing is there."""
    lost = []
    after = 0
    while batch := index.staging.files(after, BATCH):
        for inode in batch:
            if inode not in present:
                path = index.dirents.path_of(inode)
                shown = f"inode {inode}" if path is None else path.decode(errors="replace")
                lost.append(f"{shown}: its staged data is missing from the staging directory")
        after = batch[-1]
    return lost
