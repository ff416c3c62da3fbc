"""Text and tables: sources -> transforms -> filters -> dedup -> corpus.

Start with ``run.py``, then ``schemas.py`` and ``tables.py``.
"""
