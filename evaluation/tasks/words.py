"""Words and names that tasks are made of.

The words are common in source code and its documentation, each more than 250 times in 60 MB of
Python, so that a vocabulary of 8,192 tokens learned there holds every one as a single token. That
leaves the task as the difficulty, not the spelling.
"""


def listed(text: str) -> tuple[str, ...]:
    """The words of ``text``, which white space separates."""
    return tuple(text.split())


WORDS = listed(
    """
    file name value key type node data string path error function size input module code field
    edge result graph index source object method order account domain root region model format
    time output base length group mode token response filter message tag text user point item
    target request weight range degree stream service status cluster parent rule zero test job
    mask block stack event table action header row symbol tree limit step cache window system
    label flow device level factor sample image color task bucket network query host pattern
    element role vector map access port power option hash process position section member frame
    column package server seed comment space view series buffer property scope child cost style
    entry queue interval flag store signal form library distance total route state
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
