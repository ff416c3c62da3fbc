"""What each part of a model is and costs, without torch: so recipes and plans load in no time.

One file a part, of the same name as the file that computes it: its settings, which refuse what
cannot be built, and its accounting. Read ``parts.py`` first; ``training/models/variants.py`` puts
the parts together.
"""
