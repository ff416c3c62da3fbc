"""Numbers about models. Start with ``run.py``, then ``likelihood.py`` and ``intervals.py``.

What models answer is asked in ``tasks``, what was found is shown in ``pages``.
"""
