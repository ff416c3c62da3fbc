import io
import tracemalloc
import zipfile
from datetime import datetime
from itertools import pairwise

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import parse_xml
from pptx.util import Inches

from datalake.transforms.file_types import DOCX, ODP, ODS, ODT, OLE_MAGIC, PPTX, XLSX
from datalake.transforms.office_text import read_office
from datalake.transforms.text import Text, Unreadable

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
ODF_NAMES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for short, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "presentation": "presentation",
    }.items()
)
_LETTERS = "abcdefghij"
BOMB = (
    '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {letter} "' + f"&{before};" * 10 + '">' for before, letter in pairwise(_LETTERS)
    )
    + "]>"
)


def saved(document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def replaced(payload: bytes, name: str, change) -> bytes:
    """The zip with the member ``name`` changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(out, "w", 8) as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info.filename, change(data) if info.filename == name else data)
    return out.getvalue()


def odf(kind: str, body: str, declared: str = "", **more: str) -> bytes:
    out = io.BytesIO()
    content = (
        f'<?xml version="1.0"?>{declared}<office:document-content {ODF_NAMES}><office:body>'
        f"<office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("content.xml", content)
        for name, data in more.items():
            archive.writestr(name.replace("__", "/").replace("META_INF", "META-INF") + ".xml", data)
    return out.getvalue()


def document() -> docx.document.Document:
    made = docx.Document()
    made.add_heading("On tables", 0)
    made.add_heading("First part", 1)
    made.add_paragraph("Some words.")
    made.add_paragraph("one thing", style="List Bullet")
    made.add_paragraph("another", style="List Number")
    table = made.add_table(2, 2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {number}\nmore"
    return made


def test_a_document_keeps_headings_lists_and_tables():
    text = read_office(saved(document()), DOCX)
    assert text.text == (
        "On tables\n\nFirst part\n\nSome words.\n\n- one thing\n\n- another\n\n"
        "cell 0 more | cell 1 more\ncell 2 more | cell 3 more\n"
    )
    assert text.title == "On tables"
    assert text.page_starts == ()


def test_the_title_and_language_are_those_of_the_properties():
    made = document()
    made.core_properties.title, made.core_properties.language = "Said  title", "en-GB"
    text = read_office(saved(made), DOCX)
    assert (text.title, text.language) == ("Said title", "en")


def test_a_document_reads_as_with_all_changes_accepted():
    made = docx.Document()
    run = '<w:r><w:t xml:space="preserve">{}</w:t></w:r>'
    paragraph = made.add_paragraph("")
    for markup in (
        f"<w:ins {W}>{run.format('new ')}</w:ins>",
        f'<w:del {W}><w:r><w:delText xml:space="preserve">old </w:delText></w:r></w:del>',
        f"<w:hyperlink {W}>{run.format('linked')}</w:hyperlink>",
        f"<w:sdt {W}><w:sdtContent>{run.format(' chosen')}</w:sdtContent></w:sdt>",
        f"<w:r {W}><w:tab/><w:instrText>HIDDEN</w:instrText><w:t>end</w:t></w:r>",
    ):
        paragraph._p.append(parse_xml(markup))
    block = (
        f"<w:sdt {W}><w:sdtContent><w:p>{run.format('in a control')}</w:p></w:sdtContent></w:sdt>"
    )
    paragraph._p.addnext(parse_xml(block))
    assert read_office(saved(made), DOCX).text == "new linked chosen\tend\n\nin a control\n"


def test_footnotes_stand_at_the_end_with_their_numbers():
    made = docx.Document()
    paragraph = made.add_paragraph("A claim")
    paragraph._p.append(parse_xml(f'<w:r {W}><w:footnoteReference w:id="7"/></w:r>'))
    notes = (
        f'<w:footnotes {W}><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
        '<w:footnote w:id="7"><w:p><w:r><w:t>its proof</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part

    part = Part(PackURI("/word/footnotes.xml"), kind, notes.encode(), made.part.package)
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    made.part.relate_to(part, relation)
    assert read_office(saved(made), DOCX).text == "A claim[1]\n\n[1] its proof\n"


def slides() -> bytes:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Opening"
    first.placeholders[1].text = "a point"
    lower = first.placeholders[1].text_frame.add_paragraph()
    lower.text, lower.level = "below it", 1
    first.notes_slide.notes_text_frame.text = "say this"
    deck.slides.add_slide(deck.slide_layouts[6])
    last = deck.slides.add_slide(deck.slide_layouts[6])
    table = last.shapes.add_table(1, 2, *[Inches(1)] * 4).table
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    group = last.shapes.add_group_shape()
    group.shapes.add_textbox(*[Inches(1)] * 4).text_frame.text = "grouped"
    return saved(deck)


def pages(text: Text) -> list[str]:
    ends = [*text.page_starts[1:], len(text.text)]
    return [text.text[a:b].strip() for a, b in zip(text.page_starts, ends, strict=True)]


def test_slides_are_pages_with_their_notes():
    text = read_office(slides(), PPTX)
    assert pages(text) == [
        "Opening\n\na point\n  below it\n\nsay this",
        "",
        "left | right\n\ngrouped",
    ]
    assert text.title == "Opening"


def test_a_sheet_is_a_page_of_rows():
    book = openpyxl.Workbook()
    book.active.title = "Numbers"
    book.active.append(["a", 1, 0.1 + 0.2, None])
    book.active.append([])
    book.active.append([datetime(2020, 2, 29), True, "two\nlines", "=1+1"])
    book.create_sheet("Empty")
    book.create_sheet("Last")["C5"] = "far"
    text = read_office(saved(book), XLSX)
    assert pages(text) == [
        "Numbers\na | 1 | 0.3\n2020-02-29 | True | two lines",
        "",
        "Last\n |  | far",
    ]


def test_an_open_document_keeps_headings_lists_tables_and_notes():
    cell = "<table:table-cell{}><text:p>{}</text:p></table:table-cell>"
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        "<text:h>Head<text:s text:c='3'/>ing</text:h>"
        "<text:p>A claim<text:note><text:note-citation>i</text:note-citation><text:note-body>"
        "<text:p>its proof</text:p></text:note-body></text:note> <text:span>goes</text:span> "
        "on</text:p>"
        "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
        f"<table:table><table:table-row>{cell.format('', 'a')}{cell.format('', 'b')}"
        "</table:table-row>"
        "<table:table-row table:number-rows-repeated='1048576'><table:table-cell "
        "table:number-columns-repeated='16384'/></table:table-row></table:table>"
    )
    meta = (
        '<m xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>T</dc:title>'
        "<dc:language>de-DE</dc:language></m>"
    )
    text = read_office(odf("text", body, meta=meta), ODT)
    assert text.text == "Head   ing\n\nA claim[1] goes on\n\n- item\n\na | b\n\n[1] its proof\n"
    assert (text.title, text.language) == ("T", "de")


def test_open_sheets_and_slides_are_pages():
    row = (
        "<table:table-row><table:table-cell table:number-columns-repeated='2'><text:p>x</text:p>"
        "</table:table-cell></table:table-row>"
    )
    sheets = "".join(
        f"<table:table table:name='{name}'>{row}</table:table>" for name in ("One", "Two")
    )
    assert pages(read_office(odf("spreadsheet", sheets), ODS)) == ["One\nx | x", "Two\nx | x"]
    deck = "".join(
        f"<draw:page><draw:frame><draw:text-box><text:p>{name}</text:p></draw:text-box></draw:frame>"
        f"<presentation:notes><text:p>say {name}</text:p></presentation:notes></draw:page>"
        for name in ("one", "two")
    )
    assert pages(read_office(odf("presentation", deck), ODP)) == [
        "one\n\nsay one",
        "two\n\nsay two",
    ]


def test_macros_are_no_hindrance():
    macro = b"application/vnd.ms-word.document.macroEnabled.main+xml"
    plain = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    payload = replaced(
        saved(document()), "[Content_Types].xml", lambda data: data.replace(plain, macro)
    )
    assert "Some words." in read_office(payload, DOCX).text


def test_entities_are_never_resolved():
    declared = BOMB.encode()
    payload = replaced(
        saved(document()),
        "word/document.xml",
        lambda data: data.replace(b"<w:document", declared + b"<w:document", 1).replace(
            b"Some words.", b"&j;"
        ),
    )
    with pytest.raises(Unreadable, match="document type in XML"):
        read_office(payload, DOCX)
    for bomb in (BOMB, '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/passwd">]>'):
        for encoding in ("utf-8", "utf-16"):
            payload = replaced(
                odf("text", "<text:p>&j;</text:p>", bomb),
                "content.xml",
                lambda data, encoding=encoding: data.decode().encode(encoding),
            )
            with pytest.raises(Unreadable, match="document type in XML"):
                read_office(payload, ODT)


def test_a_bomb_is_refused_before_a_library_opens_it():
    payload = replaced(
        saved(document()), "word/document.xml", lambda data: data + b" " * (60 << 20)
    )
    with pytest.raises(Unreadable, match="compressed further than max_ratio"):
        read_office(payload, DOCX)


def test_pictures_are_not_unpacked():
    payload = replaced(saved(document()), "docProps/thumbnail.jpeg", lambda data: bytes(100 << 20))
    tracemalloc.start()
    assert "Some words." in read_office(payload, DOCX).text
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def test_a_sheet_that_claims_far_rows_ends():
    book = openpyxl.Workbook()
    book.active["A1"] = "x"
    payload = replaced(
        saved(book),
        "xl/worksheets/sheet1.xml",
        lambda data: data.replace(b'<row r="1"', b'<row r="999999999999"').replace(b"A1", b"A9"),
    )
    with pytest.raises(Unreadable, match="too many cells"):
        read_office(payload, XLSX)


@pytest.mark.parametrize(
    ("payload", "kind", "reason"),
    [
        (OLE_MAGIC + "EncryptedPackage".encode("utf-16-le"), DOCX, "encrypted"),
        (OLE_MAGIC + b"Word 97", DOCX, "old binary format"),
        (b"PK\x03\x04 and nothing", DOCX, "damaged"),
        (saved(document())[:-500], DOCX, "damaged"),
        (slides(), DOCX, "damaged"),
        (
            replaced(saved(document()), "word/document.xml", lambda data: data[:-90]),
            DOCX,
            "damaged",
        ),
        (replaced(slides(), "ppt/presentation.xml", lambda data: b""), PPTX, "damaged"),
        (saved(openpyxl.Workbook()), XLSX, "empty"),
        (odf("text", "<text:p/>"), ODT, "empty"),
        (odf("text", "<text:p>"), ODT, "damaged"),
        (odf("text", "<text:section>" * 5000 + "</text:section>" * 5000), ODT, "nested too deep"),
        (odf("text", "", META_INF__manifest="<encryption-data/>"), ODT, "encrypted"),
    ],
)
def test_what_cannot_be_read_says_why(payload, kind, reason):
    with pytest.raises(Unreadable, match=reason):
        read_office(payload, kind)
