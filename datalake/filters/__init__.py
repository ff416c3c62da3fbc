"""Signals measure, rules decide."""
