"""Moving data between the local disk and the servers, a room for each direction.

::

    upload/ ──► content.py ──► staged/     what is written and not on the servers yet
       │             └───────► fetch/      what is on the servers
       └──► staged/

``content.py`` is where both meet: the bytes of a block, wherever they are.
"""
