"""What a model prefers to say. Nothing below this room imports it.

Start with ``run.py`` (the stages, in order) and ``stage.py`` (what each has in hand). Data:
``examples.py`` (the items that every phase reads its own split of), ``conversations.py`` (items as
rows of tokens), ``rollouts.py`` and ``sampled.py`` (answers of a model), ``preferences.py`` (pairs
of them), ``rewards.py``. Learning: ``losses.py`` (what is minimised, as pure functions), then an
objective of the training loop per phase: ``sft.py``, ``dpo.py``, ``reward_model.py``,
``policy_gradient.py``; ``phases.py`` trains one with its control.
"""
