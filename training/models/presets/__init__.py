"""Architectures by name, each a function from sizes to a config.

``own.py`` first; ``transformers.py`` and ``hybrids.py`` are what others published; ``by_name.py``
is how a recipe finds them.
"""
