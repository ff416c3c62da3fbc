"""Tokens and tensors: tokenizer, models, kernels, scaling laws, inference.

Start with ``run.py`` and ``loop.py``.
"""
