"""Tasks that a program makes and checks. Start with ``family.py``, then ``catalogue.py``."""
