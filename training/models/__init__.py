"""The catalogue of architectures: ``variants.py`` first, then ``language_model.py``."""
