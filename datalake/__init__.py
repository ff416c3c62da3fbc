"""Text and tables: sources -> transforms -> filters -> dedup -> corpus.

Start with ``run.py``, then ``schemas.py`` and ``tables.py``.
"""

from datalake.compiled import keep_apart

keep_apart()
