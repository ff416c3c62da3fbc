import io
import random
import re
import time

import pytest

from datalake.isolation import Limits, Lost, run_each
from datalake.licences import Finding
from datalake.transforms import pdf_text
from datalake.transforms.normalise import normalise
from datalake.transforms.pdf_text import read_pdf
from datalake.transforms.text import Text, Unreadable
from tests.datalake.transforms.pdf_files import (
    HEIGHT,
    WIDTH,
    image,
    pdf,
    put,
    put_lines,
    put_turned,
    stream,
    wrap,
)

WORDS = re.findall(
    r"\w+",
    "river stone window garden letter silver morning answer paper simple country winter bridge "
    "music travel yellow market corner signal forest engine teacher village weather",
)


def prose(num_words: int, seed: int = 0) -> str:
    """Sentences without an end of line of their own."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(num_words))


def two_columns(words: str, *, top: float = 700, size: float = 10) -> tuple[str, str]:
    """Operators that set ``words`` in two columns, and the words as they must be read."""
    lines = wrap(words, 44)
    half = (len(lines) + 1) // 2
    left = put_lines(60, top, lines[:half], size)
    return left + put_lines(330, top, lines[half:], size), words


def pages_of(text: Text) -> list[str]:
    ends = [*text.page_starts[1:], len(text.text)]
    return [text.text[a:b] for a, b in zip(text.page_starts, ends, strict=True)]


@pytest.mark.parametrize("seed", range(8))
def test_the_words_of_two_columns_come_out_in_the_order_in_which_they_were_set(seed):
    content, words = two_columns(prose(300, seed))
    assert read_pdf(pdf([content])).text.split() == words.split()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_drawing_does_not_matter(seed):
    content, words = two_columns(prose(300, seed))
    operators = content.splitlines()
    random.Random(seed).shuffle(operators)
    assert read_pdf(pdf(["\n".join(operators)])).text.split() == words.split()


def test_lines_drawn_across_both_columns_row_by_row_are_read_by_column():
    lines = wrap(prose(300), 44)
    half = len(lines) // 2
    rows = zip(lines[:half], lines[half : 2 * half], strict=True)
    content = "".join(
        put(60, 700 - 12 * n, left) + put(330, 700 - 12 * n, right)
        for n, (left, right) in enumerate(rows)
    )
    assert read_pdf(pdf([content])).text.split() == " ".join(lines[: 2 * half]).split()


def test_three_columns_are_read_one_after_another():
    lines = wrap(prose(400), 28)
    third = len(lines) // 3
    content = "".join(
        put_lines(50 + 180 * n, 700, lines[third * n : third * (n + 1)], 10) for n in range(3)
    )
    assert read_pdf(pdf([content])).text.split() == " ".join(lines[: 3 * third]).split()


def test_what_lies_across_both_columns_parts_what_is_above_it_from_what_is_below():
    first, second, third = (prose(160, seed) for seed in range(3))
    caption = "Figure 1: what the two columns above and below have between them, over full width"
    content = (
        put(120, 740, "A Title Across Both Columns", 20)
        + two_columns(first, top=700)[0]
        + put(60, 520, caption)
        + two_columns(second, top=490)[0]
        + put(60, 310, caption.replace("1", "2"))
        + two_columns(third, top=280)[0]
    )
    text = read_pdf(pdf([content]))
    said = f"A Title Across Both Columns {first} {caption} {second} "
    assert text.text.split() == f"{said}{caption.replace('1', '2')} {third}".split()
    assert text.title == "A Title Across Both Columns"


def test_a_footnote_comes_after_both_columns_and_not_between_them():
    lines = wrap(prose(300), 44)
    half = len(lines) // 2
    content = (
        put_lines(60, 700, lines[:half])
        + put(60, 80, "1 A note at the foot of the first column.", 7)
        + put_lines(330, 700, lines[half:])
    )
    text = read_pdf(pdf([content])).text
    assert text.split() == (" ".join(lines) + " 1 A note at the foot of the first column.").split()
    assert text.count("\n\n") == 1


def test_a_table_is_read_row_by_row():
    cells = [(f"river {n}", f"{n * 7}", f"{n * 3} km", "open") for n in range(12)]
    content = "".join(
        put(60 + 130 * column, 700 - 14 * row, cell)
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
    )
    assert read_pdf(pdf([content])).text == "\n".join("\t".join(row) for row in cells)


def test_terms_and_their_long_meanings_are_not_taken_for_columns():
    content, said = "", []
    for n, term in enumerate(("the first term", "the second term", "the third term")):
        meaning = wrap(prose(40, n), 50)
        content += put(60, 700 - 100 * n, term) + put_lines(220, 700 - 100 * n, meaning)
        said += [*term.split(), *" ".join(meaning).split()]
    assert read_pdf(pdf([content])).text.split() == said


def test_a_file_of_matplotlib_with_two_columns_is_read_in_order():
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure(figsize=(8.5, 11))
    lines = wrap(prose(240), 40)
    half = len(lines) // 2
    figure.text(0.5, 0.95, "A Page of Another Program", ha="center", size=20)
    for column, part in enumerate((lines[:half], lines[half:])):
        for n, line in enumerate(part):
            figure.text(0.08 + 0.46 * column, 0.9 - 0.02 * n, line, size=10)
    file = io.BytesIO()
    figure.savefig(file, format="pdf", metadata={"Title": "Said in the metadata"})
    text = read_pdf(file.getvalue())
    assert text.text.split() == ["A", "Page", "of", "Another", "Program", *" ".join(lines).split()]
    assert text.title == "Said in the metadata"


def test_headers_footers_and_page_numbers_are_dropped_and_the_pages_kept_apart():
    bodies = [prose(60, n).capitalize() + "." for n in range(6)]
    contents = [
        put(60, 760, "A History of Rivers" if n % 2 else f"Chapter {1 + n // 3}", 9)
        + put(500, 760, f"{n + 11}", 9)
        + put_lines(60, 700, wrap(body, 90))
        + put(280, 40, "Draft of 1 May - do not copy", 8)
        for n, body in enumerate(bodies)
    ]
    text = read_pdf(pdf(contents))
    assert [page.strip().replace("\n", " ") for page in pages_of(text)] == bodies


def test_roman_page_numbers_are_dropped():
    names = ("iii", "iv", "v", "vi", "vii")
    contents = [
        put_lines(60, 700, wrap(prose(50, n), 90)) + put(300, 40, name)
        for n, name in enumerate(names)
    ]
    assert not set(names) & set(read_pdf(pdf(contents)).text.split())


def test_a_number_on_one_page_alone_is_dropped_only_if_it_is_that_of_the_page():
    title = put(200, 500, "A Book of Rivers", 20)
    bodies = [put_lines(60, 700, wrap(prose(60, n), 90)) for n in range(2)]
    text = read_pdf(pdf([title + put(300, 60, "1"), bodies[0], bodies[1] + put(300, 60, "1848")]))
    assert text.text.split() == f"A Book of Rivers {prose(60)} {prose(60, 1)} 1848".split()


def test_figures_of_a_table_that_runs_over_pages_are_not_taken_for_page_numbers():
    rng = random.Random(1)
    rows = [[str(rng.randrange(10, 99999)) for _ in range(4)] for _ in range(4 * 60)]
    contents = [
        "".join(
            put(60 + 130 * c, 780 - 12.5 * r, cell)
            for r, row in enumerate(rows[60 * page : 60 * page + 60])
            for c, cell in enumerate(row)
        )
        for page in range(4)
    ]
    assert read_pdf(pdf(contents)).text.split() == [cell for row in rows for cell in row]


def test_a_line_that_two_of_many_pages_share_in_their_text_is_kept():
    contents = [put_lines(60, 700, wrap(prose(80, n), 90)) for n in range(8)]
    contents[2] = contents[6] = put_lines(60, 700, ["Example", *wrap(prose(80), 90)])
    assert read_pdf(pdf(contents)).text.split().count("Example") == 2


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["We look at the trans-", "formation of it."], "We look at the transformation of it."),
        (["The self-", "aware one is self-aware."], "The self-aware one is self-aware."),
        (
            ["A known well-", "known thing goes well here."],
            "A known well-known thing goes well here.",
        ),
        (["It is state-of-the-", "art now."], "It is state-of-the-art now."),
        (["The Anglo-", "Saxon word."], "The Anglo-Saxon word."),
        (["From 1914-", "1918 it was."], "From 1914-1918 it was."),
        (["It is so -", "or is it."], "It is so - or is it."),
    ],
)
def test_hyphens_at_the_end_of_a_line_are_joined_where_only_the_line_put_them(lines, said):
    filled = [f"{prose(8)} {lines[0]}", lines[1]]
    text = read_pdf(pdf([put_lines(60, 700, filled)])).text
    assert text == f"{prose(8)} {said}"


def test_a_word_that_a_page_cuts_is_joined_and_its_page_begins_inside_it():
    start, end = prose(200), prose(200, 1)
    contents = [
        put_lines(60, 700, [*wrap(start, 80), "and the trans-"]),
        put_lines(60, 700, wrap(f"formation of {end}", 80)),
    ]
    text = read_pdf(pdf(contents))
    assert text.text.split() == f"{start} and the transformation of {end}".split()
    assert text.text[text.page_starts[1] :].startswith("formation of")


def test_paragraphs_are_told_by_indents_gaps_and_early_ends():
    parts = [f"{prose(70, n).capitalize()}." for n in range(4)]
    content, y = "", 700.0
    for n, part in enumerate(parts):
        lines = wrap(part, 90)
        if n == 2:
            y -= 10
        content += put(60 + (15 if n == 1 else 0), y, lines[0]) + put_lines(60, y - 12, lines[1:])
        y -= 12 * len(lines)
    assert read_pdf(pdf([content])).text.split("\n\n") == parts


def test_a_heading_without_white_below_it_is_a_paragraph_of_its_own():
    body = prose(60).capitalize()
    content = put(60, 712, "2. The Rivers", 10, "F3") + put_lines(60, 700, wrap(body, 90))
    assert read_pdf(pdf([content])).text == f"2. The Rivers\n\n{body}"


def test_items_of_a_list_begin_on_lines_of_their_own():
    items = [f"{n}. {prose(30, n)}" for n in range(1, 4)]
    lines = [line for item in items for line in wrap(item, 90)]
    assert read_pdf(pdf([put_lines(60, 700, lines)])).text.split("\n\n") == items


def test_code_in_a_font_of_one_width_keeps_its_lines_and_indents():
    code = ["def river(stone):", "    stone = stone -", "        len(stone)", "    return stone-"]
    content = put_lines(60, 712, wrap(prose(20), 90)) + "".join(
        put(60 + 6 * (len(line) - len(line.lstrip())), 670 - 12 * n, line.lstrip(), 10, "F2")
        for n, line in enumerate(code)
    )
    assert read_pdf(pdf([content])).text.split("\n\n")[1] == "\n".join(code)


def test_leaders_of_a_table_of_contents_become_a_tab():
    lines = [f"{name} " + ". " * 30 + str(n) for n, name in enumerate(("Stones", "Rivers"), 8)]
    assert read_pdf(pdf([put_lines(60, 700, lines)])).text == "Stones\t8\nRivers\t9"


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_a_turned_page_is_read_as_it_is_seen(rotate):
    content, words = two_columns(prose(300))
    assert read_pdf(pdf([content], page=f"/Rotate {rotate}")).text.split() == words.split()


def test_text_turned_on_a_page_is_read_along_its_own_direction():
    lines = wrap(prose(100), 60)
    content = "".join(
        put_turned((0, 1, -1, 0, 100 + 12 * n, 100), line) for n, line in enumerate(lines)
    )
    assert read_pdf(pdf([content])).text.split() == prose(100).split()


def test_a_stamp_in_the_margin_and_a_watermark_are_not_read():
    content = (
        put_lines(60, 700, wrap(prose(100), 90))
        + put_turned((0, 1, -1, 0, 30, 300), "stamp:2203.1", 14)
        + put_turned((0.7, 0.7, -0.7, 0.7, 200, 300), "CONFIDENTIAL", 60)
    )
    assert read_pdf(pdf([content])).text.split() == prose(100).split()


def test_invisible_text_over_a_scan_is_the_text_of_it():
    content = f"q {WIDTH} 0 0 {HEIGHT} 0 0 cm /Im0 Do Q\n" + "".join(
        put(60, 700 - 12 * n, line, mode=3) for n, line in enumerate(wrap(prose(60), 80))
    )
    file = pdf([content], resources="/XObject << /Im0 10 0 R >>", objects=[image()])
    text = read_pdf(file)
    assert (text.text.split(), text.remark) == (prose(60).split(), "")


def test_text_outside_of_what_is_shown_is_not_read():
    content = put(100, 400, "inside of it") + put(100, 700, "above") + put(500, 400, "beside")
    assert read_pdf(pdf([content], page="/CropBox [50 100 400 600]")).text == "inside of it"


def test_text_drawn_twice_to_look_bold_is_read_once():
    content = put(60, 700, "a bold line") + put(60.4, 700, "a bold line") + put(60, 680, "too good")
    letters = "".join(put(60 + 5.6 * (n // 2), 660, c) for n, c in enumerate("ddoonnee"))
    assert read_pdf(pdf([content + letters])).text.split() == [
        "a",
        "bold",
        "line",
        "too",
        "good",
        "done",
    ]


def test_a_space_made_by_spreading_two_letters_is_seen_and_a_spread_word_stays_one():
    # As Ghostscript writes it: the pen goes on after the y, and the next text is put at its place.
    content = (
        "BT /F1 10 Tf 1 0 0 1 60 700 Tm (and everyone of the) Tj 86.2 0 Td 3 Tc (yl) Tj 0 Tc "
        "10.22 0 Td (argely share) Tj ET BT /F1 10 Tf 1.5 Tc 60 600 Td (SPREADING) Tj ET"
    )
    assert read_pdf(pdf([content])).text == "and everyone of they largely share\n\nSPREADING"


def test_ligatures_are_letters_and_the_text_is_normal():
    to_unicode = (
        b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> "
        b"endcodespacerange 2 beginbfchar <41> <FB01> <42> <FB04> endbfchar endcmap end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 10 0 R >>"
    content = put(60, 700, "Ane", font="L1") + put(80, 700, "waBe", font="L1")
    file = pdf(
        [content],
        page="/Resources << /Font << /L1 11 0 R >> >>",
        objects=[stream(to_unicode), font],
    )
    text = read_pdf(file).text
    assert text == "fine waffle"


def other_script(lines: list[str], first: int) -> bytes:
    """A file in which a, b, c ... stand for the characters from ``first`` on."""
    to_unicode = (
        "/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> "
        f"endcodespacerange 1 beginbfrange <61> <7A> <{first:04X}> endbfrange endcmap end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 10 0 R >>"
    return pdf(
        ["".join(put(60, 700 - 12 * n, line, font="L1") for n, line in enumerate(lines))],
        page="/Resources << /Font << /L1 11 0 R >> >>",
        objects=[stream(to_unicode.encode()), font],
    )


def test_hebrew_is_read_from_right_to_left_and_numbers_in_it_from_left_to_right():
    said = ["abcd efgh 12 ijkl", "mnop qrst"]
    drawn = [line[::-1].replace("21", "12") for line in said]
    hebrew = re.sub("[a-z]", lambda m: chr(0x5D0 + ord(m[0]) - ord("a")), "\n".join(said))
    assert read_pdf(other_script(drawn, 0x5D0)).text.split() == hebrew.split()


def test_lines_of_a_script_without_spaces_are_joined_without_one():
    lines = ["abcdefghijklmnopqrst", "tsrqponmlkjihgfedcba", "abc"]
    chinese = [re.sub("[a-z]", lambda m: chr(0x4E00 + ord(m[0])), line) for line in lines]
    file = other_script(lines, 0x4E00 + ord("a"))
    assert read_pdf(file).text == "".join(chinese)


def test_glyphs_without_characters_are_unreadable():
    to_unicode = (
        b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> "
        b"endcodespacerange 1 beginbfrange <20> <7E> <E020> endbfrange endcmap end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 10 0 R >>"
    file = pdf(
        [put(60, 700, prose(6), font="L1")],
        page="/Resources << /Font << /L1 11 0 R >> >>",
        objects=[stream(to_unicode), font],
    )
    with pytest.raises(Unreadable, match=r"^no characters for its glyphs$"):
        read_pdf(file)


def scan(contents: list[str]) -> bytes:
    return pdf(contents, resources="/XObject << /Im0 10 0 R >>", objects=[image()])


SCANNED = f"q {WIDTH} 0 0 {HEIGHT} 0 0 cm /Im0 Do Q\n"


def test_a_file_of_scanned_pages_says_so():
    with pytest.raises(Unreadable, match=r"^scanned: 3 pages without text$"):
        read_pdf(scan([SCANNED, SCANNED + put(300, 40, "2"), SCANNED]))


def test_scanned_pages_among_others_are_named():
    text = read_pdf(scan([put(60, 700, "First"), SCANNED, SCANNED, put(60, 700, "Last"), SCANNED]))
    assert (text.text, text.remark) == ("First\n\nLast", "scanned pages: 2-3, 5")
    assert text.page_starts == (0, 7, 7, 7, 11)


def test_a_page_without_text_and_without_an_image_is_no_scan():
    with pytest.raises(Unreadable, match=r"^no text$"):
        read_pdf(pdf(["0 0 100 100 re f"]))


def test_a_file_that_asks_for_a_password_is_encrypted():
    key = "00" * 32
    encrypt = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{key}> /U <{key}> /P -4 >>"
    with pytest.raises(Unreadable, match=r"^encrypted$"):
        read_pdf(pdf([put(60, 700, "secret")], trailer=f"{encrypt} /ID [<{key}> <{key}>]"))


@pytest.mark.parametrize(
    "payload", [b"", b"%PDF-1.7\n", b"<html></html>", b"%PDF-1.7\n" + b"\x00" * 999]
)
def test_what_is_no_document_is_damaged(payload):
    with pytest.raises(Unreadable, match=r"^damaged: "):
        read_pdf(payload)


def test_a_file_cut_anywhere_is_read_as_far_as_it_goes_or_says_why_not():
    content, words = two_columns(prose(200))
    whole = pdf([content, content])
    for part in range(0, len(whole), 997):
        try:
            text = read_pdf(whole[:part])
        except Unreadable as error:
            assert str(error).startswith(("damaged: ", "no text"))
        else:
            assert set(text.text.split()) <= set(words.split())
            assert text.remark == "the end of the file is missing"
    text = read_pdf(whole.removesuffix(b"%%EOF\n"))
    assert (len(text.page_starts), text.remark) == (2, "the end of the file is missing")


def test_every_page_begins_where_its_first_character_is():
    contents = [
        put_lines(60, 700, [f"{WORDS[n].title()} begins.", *wrap(prose(30, n), 80)])
        for n in range(9)
    ]
    text = read_pdf(pdf(contents))
    assert len(text.page_starts) == 9
    assert all(
        page.startswith(f"{WORDS[n].title()} begins.") for n, page in enumerate(pages_of(text))
    )
    assert normalise(text.text) == text.text


@pytest.mark.parametrize("said", ["", "Microsoft Word - Thesis.doc", "main.dvi", "untitled"])
def test_a_title_that_is_a_file_name_gives_way_to_the_largest_text(said):
    content = put(60, 720, "On the Rivers of", 24) + put(60, 690, "the Northern Countries", 24)
    content += put_lines(60, 640, wrap(prose(80), 90))
    text = read_pdf(pdf([content], info=f"/Title ({said})"))
    assert text.title == "On the Rivers of the Northern Countries"


def test_the_language_of_the_catalog_is_that_of_the_text():
    assert read_pdf(pdf([put(60, 700, "Flüsse")], catalog="/Lang (de-CH)")).language == "de"
    assert read_pdf(pdf([put(60, 700, "rivers")])).language is None


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    'xmlns:pdf="http://ns.adobe.com/pdf/1.3/">{}</rdf:Description></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (
            '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>',
            Finding("CC-BY-4.0", "XMP cc:license", 1.0),
        ),
        (
            "<xmpRights:WebStatement>http://creativecommons.org/licenses/by-nc/3.0/"
            "</xmpRights:WebStatement>",
            Finding("CC-BY-NC-3.0", "XMP xmpRights:WebStatement", 1.0),
        ),
        (
            "<dc:rights><rdf:Alt><rdf:li>This work is under "
            "https://creativecommons.org/publicdomain/zero/1.0/.</rdf:li></rdf:Alt></dc:rights>",
            Finding("CC0-1.0", "XMP dc:rights", 0.9),
        ),
        ("<dc:rights><rdf:Alt><rdf:li>All rights reserved</rdf:li></rdf:Alt></dc:rights>", None),
    ],
)
def test_the_licence_of_the_xmp_packet_is_that_of_the_text(stated, found, deflate):
    packet = stream(XMP.format(stated).encode(), "/Type /Metadata /Subtype /XML", deflate)
    file = pdf([put(60, 700, "rivers")], catalog="/Metadata 10 0 R", objects=[packet])
    assert read_pdf(file).licence == found


def test_the_licence_of_a_picture_inside_is_not_that_of_the_text():
    own = XMP.format("<dc:format>application/pdf</dc:format>").encode()
    stated = '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>'
    picture = XMP.replace("ns.adobe.com/pdf/1.3/", "ns.adobe.com/tiff/1.0/").format(stated).encode()
    packets = [stream(packet, "/Type /Metadata /Subtype /XML") for packet in (own, picture)]
    file = pdf([put(60, 700, "rivers")], catalog="/Metadata 10 0 R", objects=packets)
    assert read_pdf(file).licence is None


def test_a_licence_in_the_information_dictionary_is_found():
    file = pdf([put(60, 700, "rivers")], info="/License (MIT)")
    assert read_pdf(file).licence == Finding("MIT", "PDF information License", 0.9)


def test_more_than_the_bounds_is_refused(monkeypatch):
    monkeypatch.setattr(pdf_text, "MAX_PAGES", 2)
    with pytest.raises(Unreadable, match=r"^more than 2 pages$"):
        read_pdf(pdf([put(60, 700, "a")] * 3))
    monkeypatch.setattr(pdf_text, "MAX_CHARS", 100)
    with pytest.raises(Unreadable, match=r"^more than 100 characters$"):
        read_pdf(pdf([put(60, 700, prose(30))]))
    monkeypatch.setattr(pdf_text, "MAX_PAGE_CHARS", 100)
    with pytest.raises(Unreadable, match=r"^more than 100 characters on a page$"):
        read_pdf(pdf([put(60, 700, prose(30))]))
    monkeypatch.setattr(pdf_text, "MAX_PAGE_OBJECTS", 5)
    with pytest.raises(Unreadable, match=r"^more than 5 objects on a page$"):
        read_pdf(pdf([put(60, 700, "a") * 6]))


def bomb(depth: int = 14, width: int = 10) -> bytes:
    """Forms that each draw the next one ten times: 10 ** depth drawings in some kilobytes."""
    entries = "/Type /XObject /Subtype /Form /BBox [0 0 600 700]"
    forms = [
        stream(
            f"/X{n + 1} Do ".encode() * width,
            f"{entries} /Resources << /XObject << /X{n + 1} {11 + n} 0 R >> >>",
        )
        for n in range(depth)
    ]
    fonts = "/Resources << /Font << /F1 3 0 R >> >>"
    forms.append(stream(put(60, 600, "last").encode(), f"{entries} {fonts}"))
    return pdf(["/X0 Do"], resources="/XObject << /X0 10 0 R >>", objects=forms)


def test_a_file_that_never_ends_costs_itself_alone():
    good = pdf([put(60, 700, "rivers")])
    began = time.monotonic()
    limits = Limits(seconds=2.0, memory_bytes=2 << 30)
    found = list(run_each(read_pdf, [good, bomb(), good], limits))
    assert isinstance(found[1], Lost)
    assert [text.text for text in (found[0], found[2])] == ["rivers", "rivers"]
    assert time.monotonic() - began < 20
