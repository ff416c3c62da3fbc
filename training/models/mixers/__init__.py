"""What reads other positions: one file a sequence mixer, of the same name as its settings.

``mixer.py`` says what each of them does.
"""
