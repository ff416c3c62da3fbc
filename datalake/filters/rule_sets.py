"""Published recipes as lists of rules: names that a person can say, with their exact values.

A set lists rules, and names of sets, in the order in which its source applies them; the first rule
that fails is the reason. Three sets also cut lines from the texts that they keep (``LINE_RULES``,
done by ``filters.lines``). What each source publishes and what is left to a recipe:

- ``gopher``: Rae et al. 2021, arXiv:2112.11446, A.1.1 and table A1. As in datatrove, the number of
  words and their mean length are of words that are not all signs, and the other ratios of all.
- ``c4``: Raffel et al. 2020, JMLR 21/20-074, and its code in TensorFlow Datasets (lines of five
  words and more, three sentences). The first preprint and datatrove ask for three words and five
  sentences: ``fineweb_c4`` does, without the rule on how a line ends, as FineWeb uses it. Its list
  of bad words is a scorer of a recipe, its repeated spans are ``dedup``'s.
- ``mc4``: Xue et al. 2021, arXiv:2010.11934: three lines of 200 characters and more.
- ``fineweb``: Penedo et al. 2024, arXiv:2406.17557, in its order, with the values that its code
  ships. ``fineweb_paper`` has those of the paper's section 3.6: repeated lines under 0.1 instead
  of 0.01, and bounds that drop. FineWeb judges by its own rules what C4's lines have left: hence
  signals ``fineweb_*``. ``fineweb_quality`` judges the whole text.
- ``refinedweb``: Penedo et al. 2023, arXiv:2306.01116, G.2, with the values of DCLM's copy.
- ``dclm``: Li et al. 2024, arXiv:2406.11794: ``dclm_heuristics``, then a fastText classifier that a
  recipe gives as its scorer ``dclm``. Stop words count as often as they occur.
- ``the-stack``: the filters of StarCoder on The Stack v1, Li et al. 2023, arXiv:2305.06161, 3;
  ``santacoder``: Allal et al. 2023, arXiv:2301.03988, with its share of comments.
- ``the-stack-v2``, also ``starcoder2``: Lozhkov et al. 2024, arXiv:2402.19173, 2.1 and appendix.
  It keeps plain text by file name only, which no signal knows: all of it stays.
- ``deepseek-coder``: Guo et al. 2024, arXiv:2401.14196, 2.1.

A language counts where its source asks for one. How sure a detector is means something for that
detector alone: ``language_score`` has 0.5 where the detector's own guide begins to doubt. Those of
FineWeb, RefinedWeb and DCLM ask for more than 0.65 of fastText's lid.176; a recipe that has that
file as its scorer ``lid176`` says ``{name: unsure_language, signal: scores.lid176, above: 0.65}``
behind the set, and the rule takes the place of ours. Dolma's ``gopher_v1`` counts symbols by words
and is not here.

Given the same words and sentences, datatrove 0.10.1 keeps and drops as these sets do, for the same
reason: of 4,164 texts (documentation, sources, pages, generated prose) all for both Gopher sets, C4
and FineWeb, alone and in FineWeb's order; with words of scripts without spaces one differs. Causes:

- A word "of signs" is here one of Unicode's punctuation, symbols and control characters; datatrove
  has a list, without U+2022 (that one text) and with white space.
- ``c4`` counts the words of a line once citations are gone, as TensorFlow Datasets does; datatrove
  before. So 8 of the 2,476 texts that both keep lose a line more here, and none its decision.
  ``c4`` was compared with datatrove at five words, three sentences and without ``'`` as an end.
- A text with lorem ipsum and, in an earlier line, a curly bracket is dropped for the first rule of
  the two, and by datatrove for the first line. A text without words is ``empty`` here; to
  datatrove's Gopher quality it is short.
"""

from datalake.filters.bounds import Rule


def _rule(
    name: str, signal: str, at_least: float | None = None, at_most: float | None = None
) -> Rule:
    return Rule(name=name, signal=signal, at_least=at_least, at_most=at_most)


EMPTY = _rule("empty", "num_words", at_least=1)
ENGLISH = Rule(name="not_english", signal="language", one_of=("en",))
SURE_OF_LANGUAGE = Rule(name="unsure_language", signal="language_score", at_least=0.5)

GOPHER_QUALITY = (
    EMPTY,
    _rule("too_few_words", "num_nonsymbol_words", at_least=50),
    _rule("too_many_words", "num_nonsymbol_words", at_most=100_000),
    _rule("short_words", "mean_nonsymbol_word_length", at_least=3),
    _rule("long_words", "mean_nonsymbol_word_length", at_most=10),
    _rule("many_hashes", "hash_ratio", at_most=0.1),
    _rule("many_ellipses", "ellipsis_ratio", at_most=0.1),
    _rule("many_bullets", "bullet_line_fraction", at_most=0.9),
    _rule("many_cut_lines", "ellipsis_line_fraction", at_most=0.3),
    _rule("few_alphabetic_words", "alphabetic_word_fraction", at_least=0.8),
    _rule("few_stop_words", "num_stop_words", at_least=2),
)
GOPHER_REPETITION = (
    EMPTY,
    _rule("duplicate_paragraphs", "duplicate_paragraph_fraction", at_most=0.30),
    _rule("duplicate_paragraph_characters", "duplicate_paragraph_character_fraction", at_most=0.20),
    _rule("duplicate_lines", "duplicate_line_fraction", at_most=0.30),
    _rule("duplicate_line_characters", "duplicate_line_character_fraction", at_most=0.20),
    *(
        _rule(f"top_{n}_gram", f"top_{n}_gram_character_fraction", at_most=most)
        for n, most in ((2, 0.20), (3, 0.18), (4, 0.16))
    ),
    *(
        _rule(f"duplicate_{n}_grams", f"duplicate_{n}_gram_character_fraction", at_most=most)
        for n, most in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
    ),
)
C4 = (
    EMPTY,
    ENGLISH,
    _rule("c4_lorem_ipsum", "c4_lorem_ipsum", at_most=0),
    _rule("c4_curly_bracket", "c4_curly_bracket", at_most=0),
    _rule("c4_few_sentences", "c4_num_sentences", at_least=3),
)
MC4 = (EMPTY, _rule("few_long_lines", "num_long_lines", at_least=3))
FINEWEB_C4 = (
    _rule("fineweb_lorem_ipsum", "fineweb_lorem_ipsum", at_most=0),
    _rule("fineweb_curly_bracket", "fineweb_curly_bracket", at_most=0),
    _rule("fineweb_few_sentences", "fineweb_num_sentences", at_least=5),
)


def _fineweb_quality(measured: str = "") -> tuple[Rule, ...]:
    """FineWeb's own rules, as its code has them, on the signals whose names begin so."""
    return (
        _rule("few_punctuated_lines", f"{measured}punctuated_line_fraction", at_least=0.12),
        _rule("many_short_lines", f"{measured}short_line_fraction", at_most=0.67),
        _rule("repeated_lines", f"{measured}repeated_line_ratio", at_most=0.01),
        _rule("many_newlines", f"{measured}newline_ratio", at_most=0.3),
    )


def _fineweb_paper(measured: str = "") -> tuple[Rule, ...]:
    """The three that its paper gives, 3.6; they take the place of those of the same name."""
    punctuated, short = f"{measured}punctuated_line_fraction", f"{measured}short_line_fraction"
    return (
        Rule(name="few_punctuated_lines", signal=punctuated, above=0.12),
        Rule(name="many_short_lines", signal=short, below=0.67),
        Rule(name="repeated_lines", signal=f"{measured}repeated_line_ratio", below=0.1),
    )


REFINEDWEB_LINES = _rule("many_removed_words", "refinedweb_cut_fraction", at_most=0.05)
DCLM_HEURISTICS = (
    ENGLISH,
    SURE_OF_LANGUAGE,
    *GOPHER_QUALITY[:-1],
    _rule("few_stop_words", "num_stop_word_occurrences", at_least=2),
    "gopher_repetition",
    REFINEDWEB_LINES,
)

_DATA = ("json", "yaml")
_LONG_LINES = (
    *("html", "json", "markdown", "roff", "roff manpage", "smt", "tex", "text", "xml"),
    "groff",  # Pygments' name of Roff
)
_TABLES_OF_DATA = ("graphviz", "json", "text", "web ontology language", "yaml")
_ASSEMBLY = ("motorola 68k assembly", "webassembly")

MEAN_LINES = _rule("long_lines", "mean_line_length", at_most=100)
MAX_LINES = _rule("a_long_line", "max_line_length", at_most=1000)
HEAD_OF_XML = Rule(name="xml", signal="starts_as_xml", at_most=0, not_for=("xslt",))
LITTLE_VISIBLE_TEXT = Rule(
    name="little_visible_text", signal="visible_text_fraction", at_least=0.2, only_for=("html",)
)
HTML = (
    LITTLE_VISIBLE_TEXT,
    Rule(
        name="short_visible_text", signal="visible_text_characters", above=100, only_for=("html",)
    ),
)
SIZE_OF_DATA = (
    Rule(name="short_data", signal="num_characters", at_least=50, only_for=_DATA),
    Rule(name="long_data", signal="num_characters", at_most=5000, only_for=_DATA),
)
FEW_LETTERS_OR_DIGITS = _rule("few_letters_or_digits", "alphanumeric_fraction", at_least=0.25)
SANTACODER = (
    EMPTY,
    MEAN_LINES,
    MAX_LINES,
    FEW_LETTERS_OR_DIGITS,
    *(
        Rule(
            name=name,
            signal="comment_fraction",
            at_least=least,
            at_most=most,
            only_for=("python", "java", "javascript"),
        )
        for name, least, most in (("few_comments", 0.01, None), ("many_comments", None, 0.8))
    ),
)
THE_STACK = (
    *(EMPTY, MEAN_LINES, MAX_LINES, FEW_LETTERS_OR_DIGITS, HEAD_OF_XML),
    *(*HTML, *SIZE_OF_DATA),
)
DEEPSEEK_CODER = (
    *(EMPTY, MEAN_LINES, MAX_LINES),
    _rule("few_letters", "alphabetic_fraction", at_least=0.25),
    *(HEAD_OF_XML, *HTML, *SIZE_OF_DATA),
)
STARCODER2 = (
    EMPTY,
    _rule("too_many_lines", "num_lines", at_most=100_000),
    Rule(name="long_lines", signal="mean_line_length", at_most=100, not_for=_LONG_LINES),
    Rule(name="a_long_line", signal="max_line_length", at_most=1000, not_for=_LONG_LINES),
    _rule("a_very_long_line", "max_line_length", at_most=100_000),
    _rule("generated", "generated", at_most=0),
    Rule(name="few_letters", signal="alphabetic_fraction", at_least=0.25, not_for=_ASSEMBLY),
    Rule(
        name="few_letters_or_digits",
        signal="alphanumeric_fraction",
        at_least=0.25,
        only_for=_ASSEMBLY,
    ),
    _rule("a_long_encoding", "longest_encoded", at_most=1024),
    _rule("much_encoded", "encoded_fraction", at_most=0.5),
    Rule(name="many_lines_of_data", signal="num_lines", at_most=512, only_for=_TABLES_OF_DATA),
    LITTLE_VISIBLE_TEXT,
    Rule(
        name="short_visible_text",
        signal="visible_text_characters",
        at_least=100,
        only_for=("html",),
    ),
)

RULE_SETS: dict[str, tuple[Rule | str, ...]] = {
    "gopher": ("gopher_quality", "gopher_repetition"),
    "gopher_quality": GOPHER_QUALITY,
    "gopher_repetition": GOPHER_REPETITION,
    "c4": C4,
    "mc4": MC4,
    "fineweb": (
        *(ENGLISH, SURE_OF_LANGUAGE),
        *("gopher_repetition", "gopher_quality", "fineweb_c4"),
        *_fineweb_quality("fineweb_"),
    ),
    "fineweb_paper": ("fineweb", *_fineweb_paper("fineweb_")),
    "fineweb_c4": FINEWEB_C4,
    "fineweb_quality": (EMPTY, *_fineweb_quality()),
    "fineweb_quality_paper": ("fineweb_quality", *_fineweb_paper()),
    "refinedweb": (
        *(ENGLISH, SURE_OF_LANGUAGE),
        *("gopher_repetition", "gopher_quality", REFINEDWEB_LINES),
    ),
    "dclm_heuristics": DCLM_HEURISTICS,
    "dclm": ("dclm_heuristics", _rule("low_dclm_score", "scores.dclm", at_least=0.018112)),
    "the-stack": THE_STACK,
    "the-stack-v2": ("starcoder2",),
    "starcoder2": STARCODER2,
    "santacoder": SANTACODER,
    "deepseek-coder": DEEPSEEK_CODER,
}
LINE_RULES = {  # sets that cut lines, too -> what ``filters.lines`` calls that
    "c4": "c4",
    "fineweb_c4": "fineweb",
    "refinedweb": "refinedweb",
    "dclm_heuristics": "refinedweb",
}


def rules_of(name: str) -> tuple[Rule, ...]:
    """The rules of a set, in order; a rule takes the place of an earlier one of its name."""
    return in_place(RULE_SETS[name])


def in_place(entries: tuple[Rule | str, ...]) -> tuple[Rule, ...]:
    """Rules of ``entries``, sets opened; a rule takes the place of an earlier one of its name."""
    chosen: dict[str, Rule] = {}
    for entry in entries:
        for rule in rules_of(entry) if isinstance(entry, str) else (entry,):
            chosen[rule.name] = rule
    return tuple(chosen.values())


def line_rules_of(entries: tuple[Rule | str, ...]) -> tuple[str, ...]:
    """What ``filters.lines`` is to cut for ``entries``, in order, each once."""
    found: dict[str, None] = {}
    for entry in entries:
        if isinstance(entry, str):
            own = (LINE_RULES[entry],) if entry in LINE_RULES else ()
            found |= dict.fromkeys((*own, *line_rules_of(RULE_SETS[entry])))
    return tuple(found)
