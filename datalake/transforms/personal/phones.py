"""Telephone numbers, international and as the large countries write them at home.

``+`` and a calling code of ITU-T E.164 with as many digits as that country's numbers have is enough
by itself, since no other number is written so. At home a number is known by a shape that nothing
else has (``(020) 7946 0958``, ``06 12 34 56 78``, ``090-1234-5678``), or by a word before it
(*tel*, *fax*, 電話). Numbers that a text calls ISBN, DOI or issue, dates, amounts, decimals,
versions and rows of tables are none.
"""

import re
from collections.abc import Iterator
from functools import cache

from datalake.transforms.personal.window import Match, Vocabulary, Window

# Calling code, and how many digits follow it: fixed, mobile and service numbers in use, rarer
# extremes left out. ITU-T E.164 national numbering plans, as gathered by libphonenumber 9.0.42.
_CALLING_CODES = (
    "1:10 7:10 20:8-10 27:9 30:10 31:9 32:8-9 33:9 34:9 36:8-9 39:6-11 40:9 41:9 43:7-13 44:9-10"
    " 45:8 46:7-10 47:8 48:9 49:7-12 51:8-9 52:10 53:8 54:10-11 55:10-11 56:9 57:10 58:10 60:8-10"
    " 61:9 62:8-12 63:8-10 64:8-10 65:8 66:8-9 81:9-10 82:8-10 84:9-10 86:9-11 90:10 91:10 92:9-10"
    " 93:9 94:9 95:7-10 98:10 211:9 212:9 213:8-9 216:8 218:9 220:7 221:9 222:8 223:8 224:8-9"
    " 225:10 226:8 227:8 228:8 229:8-10 230:7-8 231:7-9 232:8 233:9 234:8-10 235:8 236:8 237:8-9"
    " 238:7 239:7 240:9 241:7-8 242:9 243:9 244:9 245:7-9 246:7 248:7 249:9 250:9 251:9 252:7-9"
    " 253:8 254:9 255:9 256:9 257:8 258:8-9 260:9 261:9 262:9 263:9 264:8-9 265:7-9 266:8 267:7-8"
    " 268:8 269:7 291:7 297:7 298:6 299:6 350:8 351:9 352:6-9 353:8-9 354:7-9 355:8-9 356:8 357:8"
    " 358:7-10 359:8-9 370:8 371:8 372:7-8 373:8 374:8 375:9 376:6-9 377:8-9 378:8-10 380:9 381:8-9"
    " 382:8 383:8 385:8-9 386:8 387:8-9 389:8 420:9 421:9 423:7-9 500:5 501:7 502:8 503:8 504:8"
    " 505:8 506:8 507:7-8 508:6 509:8 590:9 591:8 592:7 593:8-9 594:9 595:9 596:9 597:6-7 598:8"
    " 599:7-8 670:7-8 672:6 673:7 674:7 675:7-8 676:7 677:7 679:7 680:7 681:6 682:5 683:7 685:7"
    " 686:8 687:6 688:6 689:8 691:7 692:7 800:8 808:8 850:8-10 852:8 853:8 855:8-9 856:8-10"
    " 870:9 880:8-10 881:9 882:8-12 883:8-12 886:8-9 960:7 961:7-8 962:8-9 963:8-9 964:9-10 965:8"
    " 966:9 967:7-9 968:8 970:9 971:8-9 972:8-9 973:8 974:8 975:7-8 976:8 977:8-10 979:9 992:9"
    " 993:8 994:9 995:9 996:9 998:9"
)
_KEEP_ZERO = ("39", "225", "229", "241", "242")  # the zero is dialled from abroad, too
_INTERNATIONAL = re.compile(r"\(?\+ ?(\d[\d ().\-/]{5,}\d)")

_N = r"[2-9]\d\d"  # of area and exchange in North America
# Shapes that nothing else has, with whose they are.
_SHAPES = re.compile(
    "|".join(
        (
            rf"(?:1[-. ])?\({_N}\) ?{_N}[-. ]\d{{4}}",  # United States, Canada
            rf"(?:1[-.])?{_N}-{_N}-\d{{4}}",
            rf"(?:1\.)?{_N}\.{_N}\.\d{{4}}",
            rf"1[- ]8(?:00|33|44|55|66|77|88)[- ]{_N}[- ]\d{{4}}",
            r"0[1-9](?:([ .])\d\d)(?:\1\d\d){3}",  # France
            r"0(?:[789]0|5\d)-\d{4}-\d{4}",  # Japan, mobile
            r"0[1-9]-\d{4}-\d{4}|0\d\d-\d{3}-\d{4}|0120-\d{3}-\d{3}|0\d{3}-\d\d-\d{4}",
            r"01[016789]-\d{3,4}-\d{4}|02-\d{3,4}-\d{4}|0[3-6]\d-\d{3,4}-\d{4}",  # South Korea
            r"0(?:10|2\d)-\d{8}|0[3-9]\d\d-\d{7,8}",  # China
            r"\(0(?:10|2\d|[3-9]\d\d)\) ?\d{4} ?\d{3,4}",
            r"400-\d{3}-\d{4}",
            r"\([1-9]\d\) ?9?\d{4}[- ]\d{4}",  # Brazil
            r"8[ -]?\(\d{3,4}\) ?\d{2,3}-\d\d-\d\d",  # Russia
            r"\(0\d{1,4}\) ?\d{3,4}[ -]\d{3,4}",  # United Kingdom, Australia and others
            r"07\d{3} \d{6}|07\d{3} \d{3} \d{3}|020 \d{4} \d{4}|01\d{3} \d{6}|01\d1 \d{3} \d{4}",
            r"0[48]\d\d \d{3} \d{3}",  # Australia
            r"06[- ]\d{8}|06 \d\d \d\d \d\d \d\d|0[1-9]\d-\d{7}|0[1-9]\d\d-\d{6}",  # Netherlands
            r"0(?:1[567]\d|[2-9]\d{1,4})/\d{3,}(?:[ -]?\d{2,}){0,4}",  # Germany
            r"0(?:1[567]\d) \d{7,8}",
        )
    )
)
# What a number may look like where a word says that it is one to call.
_NAMED = re.compile(r"\(?\d{1,5}\)?(?:[ .\-/]{0,3}\(?\d{1,5}\)?){1,6}|\d{7,12}")
PHONE_WORDS = Vocabulary(
    "tel", "tél", "telephone", "téléphone", "telefon", "telefono", "teléfono", "telefone",
    "telefoon", "telefoonnummer", "telefonnummer", "phone", "phones", "ph", "mobile", "mobil",
    "mobiel", "móvil", "movil", "cell", "cellphone", "celular", "cellulare", "portable", "handy",
    "fax", "faks", "rufnummer", "durchwahl", "kontakt", "contact", "contacto", "contato", "ligue",
    "appelez", "llama", "llámanos", "chiama", "ringen", "ringe", "т",
    "call", "dial", "sms", "whatsapp", "hotline", "helpline", "bel", "ring", "fon",
    "telefonu", "telefonszám", "puhelin", "puh", "tlf", "gsm", "тел", "телефон", "факс", "моб",
    "мобильный", "звоните", "τηλ", "τηλέφωνο", "טלפון", "هاتف", "تلفن", "جوال", "फ़ोन", "फोन",
    "मोबाइल", "phonenumber", "โทร", "điện thoại", "電話", "电话", "手机", "手機",
    "携帯", "传真", "ファックス", "热线", "전화", "휴대폰", "연락처", "联系方式",
)  # fmt: skip
_PUBLICATION = re.compile(
    r"(?<![^\W_])(?:isbn|issn|doi|pmid|pmc|arxiv|oclc|lccn|ean)(?:[-_ ]?1[03])?"
    r"[\s.:=/#'\"(\[]{0,4}\Z"
)
_OTHER_NUMBER = re.compile(
    r"(?:(?<![^\W_])(?:gtin|asin|upc|serial|sku|part|patent|issue|bug"
    r"|ticket|order|invoice|account|acct|version|port|pid|id|no|nr|n°|№|commit|rev|page|pp|vol"
    r"|eur|usd|gbp|price|seed|size|offset|timestamp|date|sha\d*|md5|hash|crc)|[#$€£¥₹])"
    r"[\s.:=/#'\"(\[]{0,4}\Z"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])[-./ ](?:0?[1-9]|[12]\d|3[01])[-./ ](?:19|20)\d\d(?!\d)"
    r"|(?:19|20)\d\d ?[-/] ?(?:19|20)\d\d(?!\d)"
)
_LABELLED = re.compile(
    r"([^\W\d_]+)(?:[ _.]{1,2}(?:no|nr|num|number|nummer|is|at|us|me|on|номер|numéro|número))?"
    r"\W{0,6}\Z",
    re.IGNORECASE,
)
_SEQUENCES = ("0123456789", "1234567890", "123456789", "12345678", "1234567")
_MIN_NAMED, _MAX_DIGITS = 7, 15  # E.164: at most fifteen digits


_LABEL = 24  # characters before a number that may call it something else
_HEXADECIMAL = re.compile(r"(?<!\w)[0-9a-f]{2} [0-9a-f]{2} \Z")  # of a dump
_JOINED = re.compile(r"[./=_\-*#$%&\\^]")  # right before a number: of a path, a sum, a name
_NEXT_GROUP = re.compile(r"(?<=[ /])[(+\d]")
_LINKED = re.compile(r"(?:tel:|phone=|wa\.me)/*\Z")


def phones(window: Window) -> Iterator[Match]:
    """Telephone numbers in the run of numbers that the window is about."""
    text = window.plain
    run = text[window.start : window.end]
    before = text[window.start - 1 : window.start]
    label = window.before[-_LABEL:].lower()
    if _JOINED.match(before) and not _LINKED.search(label):
        return
    plus = run.startswith(("+", "(+"))
    if not plus and (_HEXADECIMAL.search(label) or _PUBLICATION.search(label)):
        return
    if not plus and _OTHER_NUMBER.search(label) and not _is_called(window):
        return
    position = 0
    while position < len(run):
        found = _at(run, position, window)
        if found is None:
            following = _NEXT_GROUP.search(run, position + 1)
            if following is None:
                return
            position = following.start()
            continue
        start, end, value = found
        yield Match(window.start + start, window.start + end, "phone", value)
        position = end
        while position < len(run) and run[position] in " /":
            position += 1


def _at(run: str, position: int, window: Window) -> tuple[int, int, str] | None:
    """The number that starts at ``position`` of the run: range and digits."""
    following = window.plain[window.end : window.end + 1]
    if run.startswith(("+", "(+"), position):
        if run.startswith("+ ", position) and not _is_called(window):
            return None  # a sum
        return _international(run, position)
    if _DATE.match(run, position):
        return None
    shape = _SHAPES.match(run, position)
    told = position == 0 or _is_called(window) or (shape and re.search(r"[-()]", shape.group()))
    if shape and told and _is_free(run, shape.end(), following):
        return position, shape.end(), _digits(shape.group())
    if run.startswith("00", position) and _is_called(window):
        code = _international("+" + run[position + 2 :], 0)
        if code:
            return position, position + code[1] + 1, code[2]
    if not _is_called(window):
        return None
    named = _NAMED.match(run, position)
    if named is None or not _is_free(run, named.end(), following):
        return None
    digits = _digits(named.group())
    if not _MIN_NAMED <= len(digits) <= 12 or len(set(digits)) < 3:
        return None
    if re.fullmatch(r"\d+\.\d+", named.group()) or (len(digits) == 8 and _is_day(digits)):
        return None
    if named.group().isdigit() and (digits in _SEQUENCES or not _is_labelled(window)):
        return None
    return position, named.end(), digits


def _international(run: str, position: int) -> tuple[int, int, str] | None:
    found = _INTERNATIONAL.match(run, position)
    if found is None:
        return None
    best = None
    digits = ""
    optional_zero = re.sub(r"\(0\)", lambda m: "   ", found.group())
    for offset, character in enumerate(optional_zero):
        if not character.isdigit():
            continue
        digits += character
        if len(digits) > _MAX_DIGITS:
            break
        ends = offset + 1 == len(optional_zero) or not optional_zero[offset + 1].isdigit()
        if ends and _has_length(digits):
            best = position + offset + 1, digits
    if best is None:
        return None
    end, digits = best
    if found.group().startswith("(") and ")" not in run[position:end]:
        position += 1  # the whole stands in brackets
    if end < len(run) and run[end] in ".-/" and run[end + 1 : end + 2].isdigit():
        return None
    if len(set(digits[2:])) < 2:
        return None
    return position, end, digits


def _has_length(digits: str) -> bool:
    """Whether digits are a calling code and as many more as numbers of that country have."""
    for size in (1, 2, 3):
        code, national = digits[:size], digits[size:]
        if bounds := _lengths().get(code):
            from_zero = national.startswith("0") and code not in _KEEP_ZERO
            return bounds[0] <= len(national) <= bounds[1] and not from_zero
    return False


@cache
def _lengths() -> dict[str, tuple[int, int]]:
    table = {}
    for entry in _CALLING_CODES.split():
        code, sizes = entry.split(":")
        first, _, last = sizes.partition("-")
        table[code] = int(first), int(last or first)
    return table


def _is_free(run: str, end: int, following: str) -> bool:
    """Whether a number may end there: the run does not go on as one number or table would."""
    if end == len(run):
        return following not in ("_", "%", "=")
    return run[end] in " /)" and not re.match(r" ?[\d]{3,}", run[end:])


def _is_called(window: Window) -> bool:
    return window.announces(PHONE_WORDS)


def _is_labelled(window: Window) -> bool:
    """Whether the word stands right before the number, as in ``phone_number = "5551234567"``."""
    label = window.before[-_LABEL:]
    named = _LABELLED.search(label)
    return window.names(named.group(1) if named else label, PHONE_WORDS)


def _is_day(digits: str) -> bool:
    return digits[:2] in ("19", "20") and digits[4:6] <= "12" and digits[6:] <= "31"


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())
