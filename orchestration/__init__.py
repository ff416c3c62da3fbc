"""Order, time and choice: ``definitions.py`` is the one Dagster entry, ``recipe.py`` the one YAML reader, ``cli.py`` the command."""
