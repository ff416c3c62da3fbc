"""Bytes to text: ``normalise`` for all of it, ``html_text``, ``code_text``, then ``language``."""
