"""Numbers about models. Start with ``run.py``, then ``likelihood.py`` and ``intervals.py``."""
