"""The article codec: pure functions from bytes to bytes.

Modules, in the order in which an article is made::

    hashing      raw block → keyed hash (what makes equal blocks one segment)
    compression  raw block → stored bytes, or the block itself where it would not shrink
    container    segments → one plaintext with its own table of members
    seal         plaintext → authenticated ciphertext, bound to its place
    yenc         sealed body → lines a news server carries
    message_ids  epoch, number, attempt → Message-ID
    headers      neutral article headers
    wire         all of the last four in one call

Beside them: ``keys`` (every key from one master key), ``key_file`` and ``recovery_key`` (how the
master key is kept), ``key_record`` (where a new machine finds the key file on a server),
``newsgroups`` (where an article goes), ``tokens`` (uniform random-looking words).

Nothing here knows of sockets, clocks, databases or the event loop. Everything is safe to call from
several threads at once; the heavy calls release the GIL. ``docs/format.md`` has every byte.
"""
