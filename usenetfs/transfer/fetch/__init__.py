"""From the servers to a reader: articles are opened (``fetcher.py``), and those that will be wanted
are asked for ahead of time (``prefetch.py``)."""
