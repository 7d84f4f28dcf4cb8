"""The tables of the index, each column explained above its DDL.

This module owns the DDL, the numbers that identify the file (``APPLICATION_ID``,
``SCHEMA_VERSION``) and the list of which tables are replicated. It must not know how the tables
are used.

Rules that hold for every table:

- *Replicated* tables are what checkpoints carry to other machines. SQLite's session extension
  records their changes, so each has an explicit primary key without NULL and no trigger.
- Tables named ``local_*`` belong to this machine: what is staged, what is in flight, counters.
  They are never recorded. Losing them loses no data that reached Usenet.
- STRICT, so that a bug stores an error instead of a text in an integer column.
- Small keys: a row is found by integers, and Message-IDs are computed from the article's id, not
  stored (except where a server rewrote one).
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x554E4653
"""``UNFS`` in ``PRAGMA application_id``: what ``file(1)`` and :meth:`Index.open` look at."""

SHARDED_APPLICATION_ID: Final = 0x554E4658
"""``UNFX``: the same, and some of the rows are in other files (shards.py). A program that does not
know of those must not take it for an index."""

SCHEMA_VERSION: Final = 2
"""In ``PRAGMA user_version``. Grows with every change of a replicated or local table."""

# --- replicated ----------------------------------------------------------------------------------

# meta: what the filesystem is. Few rows, written when it is made.
#   key    filesystem_id (16 bytes), name, block_size (bytes), epoch, directory_key_check
#   value  of the type that the key says
_META = """
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
"""

# inodes: one row per file, directory, symlink or special file.
#   id        number of the inode; 1 is the root directory. Never given twice (AUTOINCREMENT):
#             what is not published yet may still mean the inode that had the number before
#   mode      type and permission bits as in st_mode
#   uid, gid  owner, numeric
#   nlink     links: for a directory 2 + its subdirectories, otherwise the number of its dirents;
#             0: unlinked, kept because somebody has it open or its blocks are still being dropped
#   size      bytes; for a symlink the length of its target
#   rdev      device number of a special file, otherwise 0
#   *time_ns  nanoseconds since 1970 UTC
# The partial index finds what an unclean stop left unlinked; it has no rows otherwise.
_INODES = """
CREATE TABLE inodes (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mode     INTEGER NOT NULL,
    uid      INTEGER NOT NULL,
    gid      INTEGER NOT NULL,
    nlink    INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    rdev     INTEGER NOT NULL,
    atime_ns INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX inodes_unlinked ON inodes (id) WHERE nlink = 0;
"""

# dirents: one row per name in a directory.
#   parent  inode of the directory
#   cookie  place of the name in the directory: a keyed 62-bit hash of the name, so that it stays
#           the same whatever else comes and goes (readdir offsets), and so that a lookup needs no
#           second index. Equal hashes take one of the next three places. Always > 2
#   name    1 to 255 bytes, as the user gave them
#   inode   what the name leads to
# The index by inode answers "what is this inode called", which paths, hard links and fsck need.
_DIRENTS = """
CREATE TABLE dirents (
    parent INTEGER NOT NULL,
    cookie INTEGER NOT NULL,
    name   BLOB NOT NULL,
    inode  INTEGER NOT NULL,
    PRIMARY KEY (parent, cookie)
) STRICT, WITHOUT ROWID;
CREATE INDEX dirents_inode ON dirents (inode);
"""

# symlinks: inode → target, 1 to 4095 bytes
_SYMLINKS = """
CREATE TABLE symlinks (
    inode  INTEGER NOT NULL PRIMARY KEY,
    target BLOB NOT NULL
) STRICT;
"""

# xattrs: extended attributes. name with its namespace (b"user.x"); value up to 64 KiB
_XATTRS = """
CREATE TABLE xattrs (
    inode INTEGER NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (inode, name)
) STRICT, WITHOUT ROWID;
"""

# blocks: the block map. A block without a row reads as zeros.
#   inode, number  which block of which file
#   segment        the segment that holds its content
#   length         how many bytes of the segment are valid (truncation makes it less than the
#                  segment's raw_length); what follows, up to the block size, reads as zeros
_BLOCKS = """
CREATE TABLE blocks (
    inode   INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    PRIMARY KEY (inode, number)
) STRICT, WITHOUT ROWID;
"""

# segments: stored content, each content once.
#   id             what block rows point to; never given twice, for the same reason as inodes.id
#   hash           keyed hash of the raw content, 16 bytes
#   raw_length     bytes of content
#   stored_length  bytes it takes inside the article
#   codec          types.Codec
#   article, slot  where it is: the article's id and the position in its member table
#   refs           number of block rows that point here; a row with 0 is deleted at once
# The index by hash is one of its own (and not the column's UNIQUE, as in files made earlier, which
# is the same to every statement): so whoever builds an index can make it last, by sorting.
_SEGMENTS = """
CREATE TABLE segments (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash          BLOB NOT NULL,
    raw_length    INTEGER NOT NULL,
    stored_length INTEGER NOT NULL,
    codec         INTEGER NOT NULL,
    article       INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    refs          INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX segments_hash ON segments (hash);
"""

# articles: what is on Usenet and was seen there.
#   id       epoch << 40 | number
#   attempt  which of its Message-IDs it was posted under
#   state    types.Durability: SEEN or VERIFIED
#   size     octets of the sealed body
#   posted   seconds since 1970 UTC
#   blocks   number of block rows that rest on it; a row with 0 is deleted at once
#   bytes    sum of those rows' length
# The partial index has the few articles that were posted more than once, and their attempt. Looking
# up a block asks it, and not the table, one page of which is read for each article otherwise.
_ARTICLES = """
CREATE TABLE articles (
    id      INTEGER NOT NULL PRIMARY KEY,
    attempt INTEGER NOT NULL,
    state   INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    posted  INTEGER NOT NULL,
    blocks  INTEGER NOT NULL,
    bytes   INTEGER NOT NULL
) STRICT;
CREATE INDEX articles_again ON articles (id, attempt) WHERE attempt <> 0;
"""

ADDED_INDEXES: Final = {
    "articles_again": "CREATE INDEX articles_again ON articles (id, attempt) WHERE attempt <> 0",
}
"""By name, indexes that the first files of this version do not have; they need no version of their
own, because they change no row."""

# message_ids: only for articles whose Message-ID a server rewrote (usually empty)
_MESSAGE_IDS = """
CREATE TABLE message_ids (
    article    INTEGER NOT NULL PRIMARY KEY,
    message_id TEXT NOT NULL
) STRICT;
"""

# --- of this machine -----------------------------------------------------------------------------

# local_meta: next_article: the first article number of this epoch that was never recorded
#             reserved_articles: numbers below it may have been used, recorded or not
#             closed_files: the number of the last record of the journal that is in the tables
_LOCAL_META = """
CREATE TABLE local_meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
"""

# local_totals: counters that status shows, so that nothing has to be counted.
#   name   totals.Counter
#   count  rows (blocks, files, …)
#   bytes  of content
_LOCAL_TOTALS = """
CREATE TABLE local_totals (
    name  INTEGER NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
"""

# local_staging: blocks whose newest content is in the staging directory.
#   inode, block  which
#   generation    grows with every change of the content; drawn from one sequence for all blocks
#   whole         1: the block map is not consulted, what no extent covers is zeros;
#                 0: the extents lie over the content that the block map gives
#   extents       (start, end) pairs of little-endian u32, ascending, disjoint: what staging holds.
#                 Empty with whole = 1: all of the block
#   bytes         of content, for the counters; an estimate until the block is hashed
#   dirtied_ns    when it was last changed, nanoseconds since 1970 UTC; the order of uploading
#   since         no change of a generation before this one is missing on Usenet
#   floor         content read at a generation before this one is of no use (the block was shortened
#                 since, or is another file's): nothing may be settled by it
#   state         staging.StagingState: DIRTY, UPLOADING, POSTED
#   article, slot what it waits for (not DIRTY), otherwise 0
#   uploaded_generation  which generation's content that article carries, otherwise 0
# A row that is changed while its content is in flight keeps its state, so that the upload can end;
# generation ≠ uploaded_generation then says that it is not the newest content that is on its way.
_LOCAL_STAGING = """
CREATE TABLE local_staging (
    inode               INTEGER NOT NULL,
    block               INTEGER NOT NULL,
    generation          INTEGER NOT NULL,
    whole               INTEGER NOT NULL,
    extents             BLOB NOT NULL,
    bytes               INTEGER NOT NULL,
    dirtied_ns          INTEGER NOT NULL,
    since               INTEGER NOT NULL,
    floor               INTEGER NOT NULL,
    state               INTEGER NOT NULL,
    article             INTEGER NOT NULL,
    slot                INTEGER NOT NULL,
    uploaded_generation INTEGER NOT NULL,
    PRIMARY KEY (inode, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX local_staging_dirty ON local_staging (dirtied_ns) WHERE state = 0;
CREATE INDEX local_staging_article ON local_staging (article, slot) WHERE article > 0;
CREATE INDEX local_staging_since ON local_staging (since);
"""

# local_article: articles recorded and not yet seen.
#   id, attempt, size   as in articles
#   state               articles.ArticleState: PENDING (recorded, no reply known), POSTED (240)
#   salt                32 bytes, the seal's; with the staged content it rebuilds the article
#   posted_ns           when the server said 240, otherwise 0
#   server              who said so, otherwise ''
#   message_id          what the server made of it, otherwise ''
_LOCAL_ARTICLE = """
CREATE TABLE local_article (
    id         INTEGER NOT NULL PRIMARY KEY,
    attempt    INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    salt       BLOB NOT NULL,
    size       INTEGER NOT NULL,
    posted_ns  INTEGER NOT NULL,
    server     TEXT NOT NULL,
    message_id TEXT NOT NULL
) STRICT;
"""

# local_segment: the segments of those articles; the index by hash lets equal content wait for them
_LOCAL_SEGMENT = """
CREATE TABLE local_segment (
    article       INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    hash          BLOB NOT NULL,
    raw_length    INTEGER NOT NULL,
    stored_length INTEGER NOT NULL,
    codec         INTEGER NOT NULL,
    PRIMARY KEY (article, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX local_segment_hash ON local_segment (hash);
"""

# local_changelog: changes of replicated tables that no finished checkpoint carries yet, one row a
# transaction, written inside it.
#   seq      ascending, never used again
#   changes  SQLite's changeset encoding (docs/format.md)
_LOCAL_CHANGELOG = """
CREATE TABLE local_changelog (
    seq     INTEGER NOT NULL PRIMARY KEY,
    changes BLOB NOT NULL
) STRICT;
"""

# local_chain: where the chain of checkpoints stands; the keys are the fields of chain.ChainState
_LOCAL_CHAIN = """
CREATE TABLE local_chain (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
"""

# local_held: changes that a checkpoint left out because their data was not safe yet, in pieces.
#   number  of the checkpoint; those of another than the last one are left-overs
#   part    order
#   data    a changeset
_LOCAL_HELD = """
CREATE TABLE local_held (
    number INTEGER NOT NULL,
    part   INTEGER NOT NULL,
    data   BLOB NOT NULL,
    PRIMARY KEY (number, part)
) STRICT;
"""

# local_publication: the checkpoint whose record may have been sent, and the last one.
#   number      of the checkpoint
#   record      the record's bytes
#   container   what is sealed: record, inline documents, padding
#   salts       32 bytes for each copy
#   stage       chain.Stage
#   after       JSON: what local_chain says once it is done
_LOCAL_PUBLICATION = """
CREATE TABLE local_publication (
    number    INTEGER NOT NULL PRIMARY KEY,
    record    BLOB NOT NULL,
    container BLOB NOT NULL,
    salts     BLOB NOT NULL,
    stage     INTEGER NOT NULL,
    after     TEXT NOT NULL
) STRICT;
"""

# The counters of staging follow the rows by themselves: a row may change its state in six places.
# (Triggers are barred from replicated tables only.) A row changed while in flight counts as DIRTY.
_LOCAL_STAGING_COUNTERS = """
CREATE TRIGGER local_staging_inserted AFTER INSERT ON local_staging BEGIN
    UPDATE local_totals SET count = count + 1, bytes = bytes + NEW.bytes
    WHERE name = CASE WHEN NEW.uploaded_generation = NEW.generation THEN NEW.state ELSE 0 END;
END;
CREATE TRIGGER local_staging_deleted AFTER DELETE ON local_staging BEGIN
    UPDATE local_totals SET count = count - 1, bytes = bytes - OLD.bytes
    WHERE name = CASE WHEN OLD.uploaded_generation = OLD.generation THEN OLD.state ELSE 0 END;
END;
CREATE TRIGGER local_staging_updated
AFTER UPDATE OF bytes, generation, state, uploaded_generation ON local_staging
WHEN OLD.bytes <> NEW.bytes
  OR CASE WHEN OLD.uploaded_generation = OLD.generation THEN OLD.state ELSE 0 END
  <> CASE WHEN NEW.uploaded_generation = NEW.generation THEN NEW.state ELSE 0 END
BEGIN
    UPDATE local_totals SET count = count - 1, bytes = bytes - OLD.bytes
    WHERE name = CASE WHEN OLD.uploaded_generation = OLD.generation THEN OLD.state ELSE 0 END;
    UPDATE local_totals SET count = count + 1, bytes = bytes + NEW.bytes
    WHERE name = CASE WHEN NEW.uploaded_generation = NEW.generation THEN NEW.state ELSE 0 END;
END;
"""

# local_claimed: only where rows are spread over files (shards.py): keys for which main answers,
# whatever the shard has; without a row in main there is no such row.
#   kind  0: segments, 1: articles
#   id    the row's
CREATE_CLAIMED: Final = """
CREATE TABLE local_claimed (
    kind INTEGER NOT NULL,
    id   INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
"""

# segment_hashes, in each shard: where content may be.
#   hash     as in segments; in the shard that it gives, not in the segment's
#   segment  the last segment that had this content; a hint: that row says whether it still does
_SEGMENT_HASHES = """
CREATE TABLE segment_hashes (
    hash    BLOB NOT NULL PRIMARY KEY,
    segment INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

# shard, in each shard, one row: which file of which index this is.
#   stamp   as in the index's local_meta
#   number  from 0
#   count   how many there are
_SHARD = """
CREATE TABLE shard (
    stamp  BLOB NOT NULL,
    number INTEGER NOT NULL PRIMARY KEY,
    count  INTEGER NOT NULL
) STRICT;
"""

CREATE_SHARD: Final = "".join(
    (
        # ids are given by main, and content is found by segment_hashes
        _SEGMENTS.partition("CREATE UNIQUE INDEX")[0].replace(" AUTOINCREMENT", ""),
        _ARTICLES,
        _SEGMENT_HASHES,
        _SHARD,
    )
)
"""The tables of a file that rows are spread over: segments and articles as in main."""

REPLICATED_TABLES: Final = (
    "meta",
    "inodes",
    "dirents",
    "symlinks",
    "xattrs",
    "blocks",
    "segments",
    "articles",
    "message_ids",
)

LOCAL_TABLES: Final = (
    "local_meta",
    "local_totals",
    "local_staging",
    "local_article",
    "local_segment",
    "local_changelog",
    "local_chain",
    "local_held",
    "local_publication",
)

CREATE_SCHEMA: Final = "".join(
    (
        _META,
        _INODES,
        _DIRENTS,
        _SYMLINKS,
        _XATTRS,
        _BLOCKS,
        _SEGMENTS,
        _ARTICLES,
        _MESSAGE_IDS,
        _LOCAL_META,
        _LOCAL_TOTALS,
        _LOCAL_STAGING,
        _LOCAL_ARTICLE,
        _LOCAL_SEGMENT,
        _LOCAL_CHANGELOG,
        _LOCAL_CHAIN,
        _LOCAL_HELD,
        _LOCAL_PUBLICATION,
        _LOCAL_STAGING_COUNTERS,
    )
)
