-- The tables of schema version 1, as that version made them.

CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE inodes (
    id       INTEGER NOT NULL PRIMARY KEY,
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
CREATE TABLE dirents (
    parent INTEGER NOT NULL,
    cookie INTEGER NOT NULL,
    name   BLOB NOT NULL,
    inode  INTEGER NOT NULL,
    PRIMARY KEY (parent, cookie)
) STRICT, WITHOUT ROWID;
CREATE INDEX dirents_inode ON dirents (inode);
CREATE TABLE symlinks (
    inode  INTEGER NOT NULL PRIMARY KEY,
    target BLOB NOT NULL
) STRICT;
CREATE TABLE xattrs (
    inode INTEGER NOT NULL,
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (inode, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks (
    inode   INTEGER NOT NULL,
    number  INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    length  INTEGER NOT NULL,
    PRIMARY KEY (inode, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE segments (
    id            INTEGER NOT NULL PRIMARY KEY,
    hash          BLOB NOT NULL UNIQUE,
    raw_length    INTEGER NOT NULL,
    stored_length INTEGER NOT NULL,
    codec         INTEGER NOT NULL,
    article       INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    refs          INTEGER NOT NULL
) STRICT;
CREATE TABLE articles (
    id      INTEGER NOT NULL PRIMARY KEY,
    attempt INTEGER NOT NULL,
    state   INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    posted  INTEGER NOT NULL,
    blocks  INTEGER NOT NULL,
    bytes   INTEGER NOT NULL
) STRICT;
CREATE TABLE message_ids (
    article    INTEGER NOT NULL PRIMARY KEY,
    message_id TEXT NOT NULL
) STRICT;
CREATE TABLE local_meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE local_totals (
    name  INTEGER NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
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
