"""Models in the formats of other tools: a file a family of published architectures.

``folder.py`` loads and saves, ``families.py`` lists the families, ``family.py`` says what each of
them tells.
"""
