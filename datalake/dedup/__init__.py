"""What says the same thing twice, and what an evaluation asks.

Reading order: ``exact``, ``urls``, ``signatures`` (near duplicates as equal keys), ``clustering``
(keys to clusters to survivors), ``repeats`` (less than a document), ``benchmarks`` (their items).
"""
