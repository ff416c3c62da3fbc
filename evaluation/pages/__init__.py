"""What people look at: findings as pages that need no network and no script.

Start with ``page.py`` (markup) and ``charts.py`` (drawings). ``task_charts.py`` and
``task_sections.py`` show what models answered, ``phase_sections.py`` how the last one came about;
``leaderboard.py`` and ``model_card.py`` are the pages made of them.
"""
