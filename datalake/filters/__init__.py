"""Signals measure, scorers learn, rules decide: ``measures``, ``scoring``, then the rules here.

Reading order: ``measures.signals`` (text to numbers), ``scoring.scorers`` (what a recipe trains),
``bounds`` (what a rule is), ``rule_sets`` (the published recipes), ``rules`` (the decision),
``lines`` (rules about less than a document).
"""
