"""Wikitext to text: what is read out, what is dropped, and what is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datalake.transforms import wikitext, wikitext_names, wikitext_templates
from datalake.transforms.normalise import normalise
from datalake.transforms.text import Unreadable
from datalake.transforms.wikitext import read_wikitext


def read(source: str, title: str = "Title") -> str:
    return read_wikitext(source.encode(), title).text


PIECES = (
    "{{", "}}", "[[", "]]", "{|", "|}", "|", "\n", "\n* ", "\n# ", "\n; ", ":", "==", "\n== a ==\n",
    "<ref>", "</ref>", "<ref name=a/>", "<!--", "-->", "<nowiki>", "</nowiki>", "<math>", "</math>",
    "<sup>", "</sup>", "<pre>", "</pre>", "''", "'''", "&lt;", "&#1;", "word", " ", "(", ")", ";",
    ",", "{{x}}", "{{lang|fr|a}}", "[[File:a.jpg|b]]", "[http://a.b c]", "<", ">", "é", "\x01", "5",
    "-{", "}-", "__TOC__", "{{convert|1|", "<table>", "</table>", "\x03",
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_markup_gives_text_without_marks_of_our_own(source: str) -> None:
    try:
        text = read(source)
    except Unreadable:
        return
    assert not set(text) & set("\x01\x02\x03\x04\x05\x06")
    assert "\n\n\n" not in text or "<pre>" in source or "<nowiki>" in source
    assert text == text.strip()


@given(st.lists(st.text("abc déß.,", min_size=1), max_size=8).map(" ".join))
def test_prose_is_read_as_it_is(prose: str) -> None:
    assert read(prose) == prose.strip()


# Without what joins the letter before it: > and U+0338 are one character in NFC.
characters = st.characters(
    exclude_categories=("Cs", "Cc", "Mn", "Mc", "Me"), exclude_characters="<&"
)


@given(st.text(characters, max_size=60))
def test_what_nowiki_holds_is_read_as_it_is(content: str) -> None:
    assert read(f"a<nowiki>{content}</nowiki>b") == normalise(f"a{content}b")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("'''Bold''' and ''italic'' and '''''both'''''.", "Bold and italic and both."),
        ("l''''amour'''", "l'amour"),
        ("don't", "don't"),
        ("'''never closed", "never closed"),
        ("[[Target]] and [[Target|text]] and [[bus]]es", "Target and text and buses"),
        ("[[#Section]], [[:Category:A]], [[:File:a.jpg]]", "Section, Category:A, File:a.jpg"),
        ("[[wikt:word|word]] [[:de:Haus|house]] [[de:Haus]]", "word house"),
        ("a [http://x.org label] b [http://x.org] c http://x.org", "a label b c http://x.org"),
        ("a[[Category:X]]b [[Kategorie:X]] [[Категория:X]]", "ab"),
        ("a[[File:x.jpg|thumb|A [[link]] and {{t|[[x]]}}.]]b", "ab"),
        ("a[[Unbekannt:x.JPG|thumb|B.]]b", "ab"),
        ("a&nbsp;b &amp;lt; &lt;b&gt; &#8212; &unknown;", "a b &lt; <b> — &unknown;"),
        ("1 < 2 <3 a<b> x</b> <unknown>c</unknown>", "1 < 2 <3 a x <unknown>c</unknown>"),
        ("a<br>b<br />c", "a\nb\nc"),
        ("x<sup>2</sup> 10<sup>−3</sup> 19<sup>th</sup> H<sub>2</sub>O", "x^2 10^−3 19th H2O"),
        ('a <span style="display:none">no</span>b', "a b"),
        ("a<!-- [[x --> b", "a b"),
        ("a <!-- never closed", "a"),
        ("__NOTOC__\n__KEIN_INHALT__\na __init__ b", "a __init__ b"),
        ("a<ref>no {{cite|x}}</ref>, b<ref name=x />.", "a, b."),
        ("a<ref>never closed {{cite|x}}\nb", "a\nb"),
        ("a <gallery>\nFile:x.jpg|no\n</gallery> b", "a b"),
        ("{{{1|default}}} {{{2}}}", "default"),
        ("-{zh-cn:软件;zh-tw:軟體}- -{A}-", "软件 A"),
        ("{{PAGENAME}} is {{formatnum:1234}} {{uc:a}}{{#if:x|y}}", "Title is 1234 A"),
        ("the {{lc:ABC}} {{ucfirst:x y}}", "the abc X y"),
        ("----\na", "a"),
    ],
)
def test_inline_markup(source: str, expected: str) -> None:
    assert read(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{lang|fr|Été}}, {{lang-el|Ελλάς}}, {{langx|de|Haus}}", "Été, Ελλάς, Haus"),
        ("{{transl|ar|ALA|kitāb}} {{transliteration|ja|kana}}", "kitāb kana"),
        ("{{nowrap|a {{small|b}}}} {{abbr|c|cc}} {{sic|helo}}", "a b c helo"),
        ("{{Convert|100|km|mi|0}}, {{cvt|5|ft|9|in|m}}", "100 km, 5 ft 9 in"),
        ("{{convert|10|-|20|km2}}; {{convert|3|x|4|x|5|m}}", "10–20 km²; 3 × 4 × 5 m"),
        ("{{convert|1|to|2|sqmi|km2|abbr=on}} {{convert|7|C}}", "1 to 2 sq mi 7 °C"),
        ("{{val|1.5|0.2|e=3|u=m}} {{frac|1|2}} {{frac|3|1|2}}", "1.5 ± 0.2×10^3 m 1/2 3 1/2"),
        ("{{circa|1950}}; {{reign|1|2}}; {{fl.|1200}}", "c. 1950; r. 1–2; fl. 1200"),
        ("{{as of|2020|5}} {{As of|2019|lc=y}}", "As of May 2020 as of 2019"),
        ("{{start date|1999|12|31|df=y}}", "31 December 1999"),
        ("a{{ndash}}b{{snd}}c{{nbsp}}d{{'}}s", "a–b – c d's"),
        ("{{nihongo|Go|碁|igo}} {{zh|c=中|p=zhōng}}", "Go (碁, igo) 中; zhōng"),
        ("{{hlist|a|b}} {{USS|Name|CV-6}} {{ill|A b|de|C}}", "a, b USS Name A b"),
        ("{{ill|A b|de|C|lt=shown}} {{template:lang_x}}", "shown"),
        ("{{math|''x'' {{=}} 2}} {{tmath|a^2}} {{chem|H|2|O}}", "x = 2 $a^2$ H2O"),
        ("said:\n{{quote|text=Words.|author=A}}\nthen", "said:\n\nWords.\n\nthen"),
        ("{{US$|5}} {{GBP|6}} {{lang|fr|2=a=b}}", "US$5 £6 a=b"),
        ("{{ lang <!-- c -->\n| fr\n| mot }}", "mot"),
    ],
)
def test_templates_that_carry_words(source: str, expected: str) -> None:
    assert read(source) == expected


@pytest.mark.parametrize("arguments", ["", "|", "|a", "|1|2|3|4|5", "|||x=y", "|1|km", "|=|-|13"])
def test_no_template_fails_by_odd_arguments(arguments: str) -> None:
    names = [*wikitext_templates._SAID, *(f"{p}x" for p, _ in wikitext_templates._PREFIXES), "x"]
    for name in names:
        assert read(f"a {{{{{name}{arguments}}}}} b").startswith("a")


def test_names_are_written_as_they_are_looked_up() -> None:
    names = wikitext_names.FILE_PREFIXES | wikitext_names.CATEGORY_PREFIXES
    names |= wikitext_names.END_SECTIONS | set(wikitext_templates._SAID)
    assert all(normalise(name).lower().strip() == name for name in names)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Foo ({{IPA|x}}; born 1950) bar", "Foo (born 1950) bar"),
        ("Foo ( {{x}} ; {{y}}; born 1950)", "Foo (born 1950)"),
        ("Foo ({{x}}) bar", "Foo bar"),
        ("Foo ({{x}}, {{y|z}}) bar", "Foo bar"),
        ("Foo (a, {{x}}, b; {{y}})", "Foo (a, b)"),
        ("Foo (née Bar {{x}})", "Foo (née Bar)"),
        ("Foo ({{x}}; born (as Bar) 1950)", "Foo (born (as Bar) 1950)"),
        ("Foo (a ({{x}}) b)", "Foo (a b)"),
        ("東京（{{x}}）は", "東京は"),
        ("call f() and g( ) here {{x}}", "call f() and g( ) here"),
        ("a {{x}} b {{x}}, c {{x}}{{y}}.", "a b, c."),
        ("a{{x}}b", "ab"),
        ("{{x}}\n{{y}} {{z}}\na\n{{x}}\nb", "a\nb"),
        ("Foo ({{x}}<math>y</math>)", "Foo ($y$)"),
    ],
)
def test_gaps_are_closed_where_something_was_dropped(source: str, expected: str) -> None:
    assert read(source) == expected


def test_lists_keep_their_items_and_their_depth() -> None:
    source = (
        "* a\n** b\n*# c\n# d\n* {{x}}\n*\n; term : meaning\n: indented\n:* e\n<ul><li>f</li></ul>"
    )
    assert read(source) == "- a\n  - b\n  - c\n- d\nterm: meaning\nindented\n  - e\n\n- f"


def test_headings_are_lines_and_empty_sections_go() -> None:
    source = (
        "lead\n== ''A'' [[b]] ==\ntext\n=== Empty ===\n{{x}}\n=== C ===\nmore\n"
        "== Only below ==\n=== D ===\nd\n== Empty too ==\n=== E ===\n{|\n|x\n|}\n== F ==\nf"
    )
    expected = "lead\n\nA b\n\ntext\n\nC\n\nmore\n\nOnly below\n\nD\n\nd\n\nF\n\nf"
    assert read(source) == expected


def test_end_sections_go_with_all_below_them_and_nothing_else() -> None:
    source = (
        "== A ==\na\n=== Notes ===\n* n\n=== B ===\nb\n== See also ==\n* [[x]]\n=== sub ===\ny\n"
        "== C ==\nc\n== Einzelnachweise ==\n<references />\n== References ==\nz"
    )
    assert read(source) == "A\n\na\n\nB\n\nb\n\nC\n\nc"


@pytest.mark.parametrize(
    "table",
    [
        "{| class=x\n! h\n|-\n| a || {{b|c}}\n|}",
        "{|\n| a\n{|\n| nested\n|}\n| b\n|}",
        ":{|\n|a\n|}",
        "{{hidden|t=\n{|\n|a\n|}}}",
        "{{box|x=1\n|y={{z|\n{|\n|a\n|-\n|b\n|}\n}}\n|}}",
        "<table class=x><tr><td>a</td></tr></table>",
        "{|\n| a <ref>{{x\n|}}</ref>\n|}",
    ],
)
def test_tables_are_dropped_inside_templates_too(table: str) -> None:
    assert read(f"before\n{table}\nafter").split() == ["before", "after"]


def test_a_table_that_nothing_closes_ends_at_the_next_heading() -> None:
    assert read("a\n{|\n| b\n== H ==\nc") == "a\n\nH\n\nc"
    assert read("a\n{|\n| b\n\nc") == "a"


def test_what_is_left_of_broken_boxes_is_no_text() -> None:
    assert read("{{Infobox\n| name = x\n| y = [[z]]\n\nText goes on.") == "Text goes on."
    assert read("}}\n|}\n|-\nText.") == "Text."


def test_formulas_stay_latex() -> None:
    source = (
        r"If <math>a_{1} \le \frac{x}{{y}}</math>, then"
        '\n<math display="block">\n\\int f\n</math>\nand <chem>H2O</chem><math></math>.'
    )
    expected = "If $a_{1} \\le \\frac{x}{{y}}$, then\n$$\\int f$$\nand $\\ce{H2O}$."
    assert read(source) == expected


def test_code_is_kept_with_its_spaces() -> None:
    source = (
        'See <code>a[0]</code>:\n<syntaxhighlight lang="c">\nif (a < b) {\n\n\n    {{x}};\n}\n'
        "</syntaxhighlight>\n<pre>\n[[x]]  &lt;y&gt;\n</pre> and "
        '<syntaxhighlight lang="c" inline>a = {{}}</syntaxhighlight>.'
    )
    expected = "See a[0]:\n\nif (a < b) {\n\n\n    {{x}};\n}\n\n[[x]]  <y>\n and a = {{}}."
    assert read(source) == expected


def test_right_to_left_text_is_kept() -> None:
    source = "'''שלום''' ([[אנגלית]]: {{אנגלית|hello}}) הוא [[קובץ:x.jpg|ממוזער|תמונה]]ברכה."
    source += "\n[[קטגוריה:א]]"
    assert read(source) == "שלום (אנגלית:) הוא ברכה."


def test_text_is_normalised_and_titled() -> None:
    found = read_wikitext("e\u0301\r\nx\u00a0y \xff".encode(), " A\u00a0 title ")
    assert (found.text, found.title) == ("é\nx y ÿ", "A title")
    assert read_wikitext(b"a\xffb", "").text == "a\ufffdb"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x" * (wikitext.MAX_BYTES + 1), "longer than 4194304 bytes"),
        ("{{a|" * 10_000, "nested or unclosed markup"),
        ("{{nowrap|" * 2_000 + "}}" * 2_000, "nested or unclosed markup"),
        ("[[a|" * 10_000, "nested or unclosed markup"),
        ("[http://a " * 10_000, "nested or unclosed markup"),
        ("{{a|" * 39 + "word " * 800_000, "nested or unclosed markup"),
        ("* a\n" * 60_000, "too much markup"),
        ("&lt;" * 60_000, "too much markup"),
    ],
)
def test_absurd_markup_is_refused(source: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(source)


@pytest.mark.parametrize(
    "source",
    ["<ref>" * 20_000, "<pre>" * 400_000, "<!--" * 20_000, "<a " * 20_000, "<b>" * 20_000]
    + ["(" + "{{x}} " * 10_000, " " * 1_000_000 + "{{x}}", "{|\n|" * 20_000, "''" * 100_000]
    + ["{{a|" * 30 + "x" + "}}" * 30, "-{" * 50_000, "( " * 50_000 + "{{x}}", "_" * 100_000],
)
def test_what_nothing_closes_is_read_in_one_pass(source: str) -> None:
    read(source)  # minutes, where it is not


def test_some_brackets_that_nothing_closes_are_no_reason_to_refuse() -> None:
    assert read("[http://x.org a\n" * 60 + "word\n" * 1000).endswith("word")
    assert read("[[a " * 30 + "{{b " * 5 + "word").endswith("word")
