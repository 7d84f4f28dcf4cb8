"""The news client: streams, connections, one pool per server, and the set of servers.

Everything that crosses the network goes through :class:`~usenetfs.net.providers.ProviderSet`.
Imports trio and ``usenetfs.nntp``; knows nothing of articles' insides, the index or files.
"""
