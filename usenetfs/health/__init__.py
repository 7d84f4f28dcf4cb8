"""The health of what is stored: whether the servers still have it.

``asking`` asks every spool for one article, ``verdict`` says what the answers mean, ``choice`` says
which articles are asked for, ``verification`` does it, ``damage`` says which parts of which files
are lost, ``chain`` does the same for what a recovery needs. ``tally`` counts.
"""
