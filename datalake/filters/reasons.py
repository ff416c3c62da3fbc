"""What a reader of the data card is told about each reason why a document or a line went."""

LICENCE_REFUSED = "licence_refused"
LICENCE_UNKNOWN = "licence_unknown"

REASONS = {
    LICENCE_REFUSED: "the licence is not on the allow list",
    LICENCE_UNKNOWN: "no licence is known",
    # Of any text.
    "empty": "no word at all",
    "not_english": "in another language than English",
    "unsure_language": "the detector is not sure of the language",
    "too_few_words": "few words",
    "too_many_words": "very many words",
    "short_words": "words that are short in the mean",
    "long_words": "words that are long in the mean",
    "many_hashes": "many # for its words",
    "many_ellipses": "many ellipses for its words",
    "many_bullets": "nearly all lines are items of a list",
    "many_cut_lines": "many lines end in an ellipsis",
    "few_alphabetic_words": "many words without a letter",
    "few_stop_words": "few of the commonest English words",
    "duplicate_paragraphs": "many paragraphs repeat an earlier one",
    "duplicate_paragraph_characters": "much of the text is in repeated paragraphs",
    "duplicate_lines": "many lines repeat an earlier one",
    "duplicate_line_characters": "much of the text is in repeated lines",
    **{f"top_{n}_gram": f"one run of {n} words makes up much of the text" for n in (2, 3, 4)},
    **{
        f"duplicate_{n}_grams": f"much of the text is in repeated runs of {n} words"
        for n in range(5, 11)
    },
    "few_long_lines": "few lines as long as a paragraph",
    "few_punctuated_lines": "few lines end as a sentence does",
    "many_short_lines": "most lines are short",
    "repeated_lines": "lines repeat",
    "many_newlines": "many line ends for its words, as in a list",
    "many_removed_words": "the line rules remove a large part of it",
    "low_dclm_score": "DCLM's classifier of quality says no",
    # Of what line rules leave.
    **{
        f"{name}_{reason}": f"{said} in the lines that {whose} rules leave"
        for name, whose in (("c4", "C4's"), ("fineweb", "FineWeb's C4"))
        for reason, said in (
            ("lorem_ipsum", "lorem ipsum"),
            ("curly_bracket", "a curly bracket"),
            ("few_sentences", "few sentences"),
        )
    },
    # Of code.
    "too_many_lines": "very many lines",
    "long_lines": "lines that are long in the mean",
    "a_long_line": "a very long line",
    "a_very_long_line": "an extremely long line",
    "generated": "says that a program wrote it",
    "few_letters": "few characters are letters",
    "few_letters_or_digits": "few characters are letters or digits",
    "few_comments": "hardly a comment",
    "many_comments": "hardly anything but comments",
    "xml": "starts with an XML declaration",
    "little_visible_text": "little of the page is seen by a reader",
    "short_visible_text": "a reader sees hardly any text",
    "short_data": "a data file of few characters",
    "long_data": "a data file of many characters",
    "many_lines_of_data": "a data file of many lines",
    "a_long_encoding": "a long run of encoded data",
    "much_encoded": "mostly encoded data",
    # Lines that are cut from a text that stays.
    **{
        f"{rules}_{reason}": f"line: {said}"
        for rules in ("c4", "fineweb")
        for reason, said in (
            ("long_word", "a word of more than a thousand characters"),
            ("citation", "a citation mark or an edit link in it"),
            ("few_words", "few words"),
            ("javascript", "says javascript"),
            ("policy", "speaks of policies or cookies"),
            ("margin", "white space at its ends"),
            ("line_end", "ends with another sign than a line feed"),
        )
    },
    "c4_no_end_mark": "line: does not end as a sentence does",
    "refinedweb_uppercase": "line: mostly capitals",
    "refinedweb_numeric": "line: nothing but digits",
    "refinedweb_counter": "line: a counter, such as 3 likes",
    "refinedweb_few_words": "line: one word",
    "refinedweb_line_feeds": "more than two line feeds in a row",
    "refinedweb_edit": "line: a button's words in it",
    "refinedweb_emptied": "line: nothing but a button's words",
}
