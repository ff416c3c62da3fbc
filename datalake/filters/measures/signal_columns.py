"""Columns of the matrix that the compiled kernels fill, one row a document.

The names are those of table ``signals``; a kernel knows a column by its place.
"""

NUMBERS = (
    "num_words",
    "num_lines",
    "mean_word_length",
    "hash_ratio",
    "ellipsis_ratio",
    "bullet_line_fraction",
    "ellipsis_line_fraction",
    "alphabetic_word_fraction",
    "num_stop_words",
    "duplicate_line_fraction",
    "duplicate_line_character_fraction",
    "duplicate_paragraph_fraction",
    "duplicate_paragraph_character_fraction",
    *(f"top_{n}_gram_character_fraction" for n in (2, 3, 4)),
    *(f"duplicate_{n}_gram_character_fraction" for n in range(5, 11)),
    "max_line_length",
    "mean_line_length",
    "alphabetic_fraction",
    "alphanumeric_fraction",
    "num_characters",
    "num_tokens",
    "num_nonsymbol_words",
    "mean_nonsymbol_word_length",
    "median_word_length",
    "num_stop_word_occurrences",
    "stop_word_fraction",
    "unique_word_fraction",
    "unigram_entropy",
    "uppercase_fraction",
    "all_caps_word_fraction",
    "digit_fraction",
    "punctuation_fraction",
    "space_fraction",
    "punctuated_line_fraction",
    "short_line_fraction",
    "repeated_line_ratio",
    "newline_ratio",
    "num_long_lines",
    "num_javascript_lines",
    "num_policy_lines",
    *(
        f"{variant}_{name}"
        for variant in ("c4", "fineweb")
        for name in ("num_sentences", "lorem_ipsum", "curly_bracket", "line_characters")
    ),
    "fineweb_punctuated_line_fraction",
    "fineweb_short_line_fraction",
    "fineweb_repeated_line_ratio",
    "fineweb_newline_ratio",
    "refinedweb_cut_fraction",
)

COLUMN = {name: place for place, name in enumerate(NUMBERS)}
