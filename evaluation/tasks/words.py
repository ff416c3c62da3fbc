"""Words and names that tasks are made of.

The words are common in source code and its documentation: a vocabulary of 8,192 tokens learned from
30 MB of Python holds every one as a single token, with a blank before it or not. That leaves the
task as the difficulty, not the spelling.
"""


def listed(text: str) -> tuple[str, ...]:
    """The words of ``text``, which white space separates."""
    return tuple(text.split())


WORDS = listed(
    """
    file name value key type node data string path error function size input module code field
    edge result graph index source object method account domain root region model format
    time output base length group mode token response filter message tag text user point item
    target request weight range stream service status cluster parent rule zero test job mask
    block stack event table action header row symbol tree limit step cache system label flow
    device level factor sample image color task network query host role vector map port hash
    process position section frame column package server comment space view buffer property
    style entry queue store form library total route state array class shape resource version
    schema context matrix tuple prefix alias scale client filename timeout argument axis body
    """
)

NAMES = listed(
    """
    Anna Ben Carl Dora Eva Finn Greta Hugo Ida Jan Kim Leo Mia Nina Otto Paul Rosa Sam Tom Uma
    Vera Will Yara Zoe Adam Bella Clara David Emma Frank Grace Henry Iris Jack Kate Lucas Maria
    Noah Olga Peter
    """
)

COLORS = ("red", "blue", "green", "black", "white", "gray", "yellow", "orange", "pink", "brown")


def with_article(noun: str) -> str:
    """``noun`` behind its indefinite article, by its first letter."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"
