"""Source code: repositories by commit, and the distributions that are installed here.

To read in this order: ``addresses``, ``git``, ``repository_files``, ``repositories``, ``packages``.
"""
