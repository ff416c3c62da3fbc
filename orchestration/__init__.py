"""Order, time and choice.

``definitions.py`` is the one Dagster entry, ``assets/`` the lineage graph, ``recipe.py`` the one
reader of YAML, ``cli.py`` the command.
"""
