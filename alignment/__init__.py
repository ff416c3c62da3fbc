"""What a model prefers to say. Nothing below this room imports it.

Start with ``examples.py`` (the items that every phase reads), then ``conversations.py`` (items as
rows of tokens), ``preferences.py`` (pairs of answers) and ``losses.py`` (what is minimised).
"""
