"""Numbers that come from examples or lists: ``scorers`` names the kinds, ``examples`` chooses.

``classifiers`` and ``fasttext_model`` tell classes apart, ``perplexity`` models a language,
``word_lists`` counts; ``held_out`` says how good a classifier is.
"""
