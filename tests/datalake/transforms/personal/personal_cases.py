"""Labelled snippets of text: what is personal in them, and what only looks like it.

Generated values have valid check digits and come from a seed, by code of its own (the detectors'
checks are not used here); contexts are written by hand. A snippet marks each find as
``«type:value»``; one without a mark is a hard negative of the type that it is listed under.
"""

import base64
import json
import random
import re
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_MARK = re.compile(r"«(\w+):(.*?)»", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A text and the ranges of bytes, with their types, that are to be found in it."""

    text: str
    finds: tuple[tuple[int, int, str], ...]
    language: str = "en"


def case(marked: str, language: str = "en") -> Case:
    """Read ``«type:value»`` marks."""
    text, finds, done = "", [], 0
    for mark in _MARK.finditer(marked):
        text += marked[done : mark.start()]
        start = len(text.encode())
        text += mark.group(2)
        finds.append((start, len(text.encode()), mark.group(1)))
        done = mark.end()
    return Case(text + marked[done:], tuple(finds), language)


def _digits(rng: random.Random, size: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(size))


def _complete(rng: random.Random, draw: Callable[[], str], is_valid: Callable[[str], bool]) -> str:
    """Draw until the check holds."""
    while True:
        value = draw()
        if is_valid(value):
            return value


def luhn_digit(body: str) -> str:
    total = 0
    for k, digit in enumerate(body[::-1]):
        doubled = int(digit) * 2 if k % 2 == 0 else int(digit)
        total += doubled // 10 + doubled % 10
    return str(-total % 10)


def card(rng: random.Random) -> str:
    prefix, size = rng.choice(
        [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("37", 15), ("6011", 16), ("3530", 16)]
        + [("62", 16), ("36", 14)]
    )
    body = prefix + _digits(rng, size - len(prefix) - 1)
    return body + luhn_digit(body)


def grouped_card(rng: random.Random, separator: str) -> str:
    while True:
        number = card(rng)
        if len(number) == 16:
            return separator.join(number[k : k + 4] for k in range(0, 16, 4))
        if len(number) == 15:
            return separator.join((number[:4], number[4:10], number[10:]))


def iban(rng: random.Random) -> str:
    country, letters, size = rng.choice(
        [("NL", "ABNA", 18), ("DE", "", 22), ("GB", "NWBK", 22), ("FR", "", 27), ("ES", "", 24)]
        + [("BE", "", 16), ("NO", "", 15), ("IT", "X", 27), ("CH", "", 21), ("PL", "", 28)]
    )
    body = letters + _digits(rng, size - 4 - len(letters))
    number = "".join(str(int(c, 36)) for c in f"{body}{country}00")
    return f"{country}{98 - int(number) % 97:02d}{body}"


def bsn(rng: random.Random) -> str:
    def check(n: str) -> bool:
        total = sum(int(d) * w for d, w in zip(n[:8], range(9, 1, -1), strict=True))
        return (total - int(n[8])) % 11 == 0

    return _complete(rng, lambda: _digits(rng, 9), check)


def dni(rng: random.Random) -> str:
    number = rng.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def nie(rng: random.Random) -> str:
    first, number = rng.randrange(3), rng.randrange(1_000_000, 9_999_999)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[int(f"{first}{number}") % 23]
    return f"{'XYZ'[first]}{number}{letter}"


def nir(rng: random.Random) -> str:
    body = (
        f"{rng.choice('12')}{rng.randrange(30, 99)}{rng.randrange(1, 13):02d}"
        f"{rng.randrange(1, 96):02d}{rng.randrange(1, 990):03d}{rng.randrange(1, 999):03d}"
    )
    return f"{body}{97 - int(body) % 97:02d}"


def spaced_nir(rng: random.Random) -> str:
    n = nir(rng)
    return " ".join((n[0], n[1:3], n[3:5], n[5:7], n[7:10], n[10:13], n[13:]))


def birthday(rng: random.Random) -> tuple[str, str, str]:
    return f"{rng.randrange(1, 29):02d}", f"{rng.randrange(1, 13):02d}", f"{rng.randrange(40, 99)}"


def steuer_id(rng: random.Random) -> str:
    digits = rng.sample(string.digits, 9)
    digits.append(rng.choice(digits))
    rng.shuffle(digits)
    if digits[0] == "0":
        return steuer_id(rng)
    product = 10
    for digit in digits:
        total = (int(digit) + product) % 10
        product = (10 if total == 0 else total) * 2 % 11
    return "".join(digits) + str((11 - product) % 10)


def pesel(rng: random.Random) -> str:
    day, month, year = birthday(rng)
    body = year + month + day + _digits(rng, 4)
    total = sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True))
    return body + str(-total % 10)


def personnummer(rng: random.Random) -> str:
    day, month, year = birthday(rng)
    body = year + month + day + _digits(rng, 3)
    return f"{body[:6]}-{body[6:]}{luhn_digit(body)}"


def hetu(rng: random.Random) -> str:
    day, month, year = birthday(rng)
    number = f"{rng.randrange(2, 900):03d}"
    check = "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(day + month + year + number) % 31]
    return f"{day}{month}{year}-{number}{check}"


def fodselsnummer(rng: random.Random) -> str:
    while True:
        day, month, year = birthday(rng)
        body = day + month + year + _digits(rng, 3)
        first = (
            -sum(int(d) * w for d, w in zip(body, (3, 7, 6, 1, 8, 9, 4, 5, 2), strict=True)) % 11
        )
        if first == 10:
            continue
        body += str(first)
        last = (
            -sum(int(d) * w for d, w in zip(body, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
        )
        if last < 10:
            return body + str(last)


def cpr(rng: random.Random) -> str:
    def check(n: str) -> bool:
        weights = (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
        return sum(int(d) * w for d, w in zip(n, weights, strict=True)) % 11 == 0

    n = _complete(rng, lambda: "".join(birthday(rng)) + _digits(rng, 4), check)
    return f"{n[:6]}-{n[6:]}"


def _mod_11(body: str, weights: list[int]) -> str:
    rest = sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11
    return "0" if rest < 2 else str(11 - rest)


def cpf(rng: random.Random) -> str:
    n = _digits(rng, 9)
    n += _mod_11(n, list(range(10, 1, -1)))
    n += _mod_11(n, list(range(11, 1, -1)))
    return f"{n[:3]}.{n[3:6]}.{n[6:9]}-{n[9:]}"


def cnpj(rng: random.Random) -> str:
    n = _digits(rng, 8) + "0001"
    n += _mod_11(n, [5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
    n += _mod_11(n, [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2])
    return f"{n[:2]}.{n[2:5]}.{n[5:8]}/{n[8:12]}-{n[12:]}"


def _dihedral(a: int, b: int) -> int:
    """Product in the symmetries of a pentagon: rotations 0 to 4, reflections 5 to 9."""
    if a < 5:
        return (a + b) % 5 if b < 5 else (a + b) % 5 + 5
    return (a - b) % 5 + 5 if b < 5 else (a - b) % 5


def aadhaar(rng: random.Random) -> str:
    def check(n: str) -> bool:
        power = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
        state = 0
        for place, digit in enumerate(reversed(n)):
            value = int(digit)
            for _ in range(place % 8):
                value = power[value]
            state = _dihedral(state, value)
        return state == 0

    n = _complete(rng, lambda: rng.choice("23456789") + _digits(rng, 11), check)
    return f"{n[:4]} {n[4:8]} {n[8:]}"


def resident_id(rng: random.Random) -> str:
    day, month, year = birthday(rng)
    body = f"{rng.choice(['110105', '310101', '440304'])}19{year}{month}{day}{_digits(rng, 3)}"
    total = sum(int(d) * (2 ** (17 - k) % 11) for k, d in enumerate(body))
    return body + "0123456789X"[(12 - total) % 11]


def rrn(rng: random.Random) -> str:
    day, month, year = birthday(rng)
    body = year + month + day + rng.choice("12") + _digits(rng, 5)
    total = sum(int(d) * w for d, w in zip(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    return f"{body[:6]}-{body[6:]}{(11 - total % 11) % 10}"


def nhs(rng: random.Random) -> str:
    def check(n: str) -> bool:
        return sum(int(d) * w for d, w in zip(n, range(10, 0, -1), strict=True)) % 11 == 0

    n = _complete(rng, lambda: _digits(rng, 10), check)
    return f"{n[:3]} {n[3:6]} {n[6:]}"


def sin(rng: random.Random) -> str:
    body = rng.choice("1234567") + _digits(rng, 7)
    n = body + luhn_digit(body)
    return f"{n[:3]} {n[3:6]} {n[6:]}"


def ssn(rng: random.Random) -> str:
    return f"{rng.randrange(100, 650):03d}-{rng.randrange(1, 99):02d}-{rng.randrange(1, 9999):04d}"


def codice_fiscale(rng: random.Random) -> str:
    odd = dict(zip(string.digits, (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True))
    values = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25)
    odd |= dict(zip(string.ascii_uppercase, (*values, 24, 23), strict=True))
    consonants = "".join(rng.choice("BCDFGLMNPRSTV") for _ in range(6))
    body = f"{consonants}{_digits(rng, 2)}{rng.choice('ABCDEHLMPRST')}{rng.randrange(10, 29)}H501"
    body = body[:11] + f"{rng.choice('ABFHL')}{_digits(rng, 3)}"
    total = 0
    for k, c in enumerate(body):
        even = int(c) if c.isdigit() else ord(c) - ord("A")
        total += odd[c] if k % 2 == 0 else even
    return body + string.ascii_uppercase[total % 26]


def alphanumeric(rng: random.Random, size: int) -> str:
    return "".join(rng.choice(string.ascii_letters + string.digits) for _ in range(size))


def hexadecimal(rng: random.Random, size: int) -> str:
    return "".join(rng.choice("0123456789abcdef") for _ in range(size))


def github_token(rng: random.Random) -> str:
    body = alphanumeric(rng, 30)
    value, written = zlib.crc32(body.encode()), ""
    while value:
        value, digit = divmod(value, 62)
        written = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + written
    return f"gh{rng.choice('pousr')}_{body}{written.rjust(6, '0')}"


def jwt(rng: random.Random) -> str:
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).decode().rstrip("=")

    header = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    payload = part(json.dumps({"sub": _digits(rng, 10)}).encode())
    return f"{header}.{payload}.{part(rng.randbytes(32))}"


def aws_key(rng: random.Random) -> str:
    return rng.choice(("AKIA", "ASIA")) + "".join(
        rng.choice(string.ascii_uppercase + "234567") for _ in range(16)
    )


def pem(rng: random.Random) -> str:
    body = base64.b64encode(rng.randbytes(300)).decode()
    lines = "\n".join(body[k : k + 64] for k in range(0, len(body), 64))
    kind = rng.choice(("RSA ", "EC ", "", "OPENSSH "))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


_NAMES = (
    "anna", "j.smith", "maria_lopez", "bob+news", "o'neil", "li-wei", "k8s.admin", "x", "info",
    "jean-luc.picard", "andré", "müller", "иван", "user123", "a.b.c", "sales", "ÅSA", "gülşen",
)  # fmt: skip
_HOSTS = (
    "gmail.com", "mail.ru", "uni-köln.de", "correo.es", "sub.dept.university.ac.uk", "web.de",
    "qq.com", "example.org", "proton.me", "почта.рф", "例子.中国", "company.io", "naver.com",
    "yahoo.co.jp", "orange.fr", "tarn.dev", "x-y.co", "mail.museum",
)  # fmt: skip
_MAIL_TEXTS = (
    "Write to {}.", "<{}>", "mailto:{}", "Contact: {}, thanks", "联系{}谢谢", "({})", "'{}'",
    "メール：{}まで", 'author_email="{}",', "* {} (maintainer)", "{}", "From: A B <{}>\nTo: you",
    "อีเมล{}ครับ", "이메일: {}입니다", "بريد: {}", "to={}&cc=", "see {}/ or", "「{}」", 
    "e-mail\n{}\n",
    "[{}]", "…{}…", "Ask {}?", "\ufeff{}", "cc:{};",
)  # fmt: skip

_PHONES = (
    "+1 415 555 2671", "+1-212-456-7890", "+1 (646) 555-3890", "+44 20 7946 0958", "+442079460958",
    "+44 (0)20 7946 0958", "+49 30 901820", "+49 (0) 171 1234567", "+33 1 42 68 53 00",
    "+33 6 12 34 56 78", "+31 6 12345678", "+31-20-5551234", "+34 612 345 678", "+39 06 6982",
    "+39 02 1234 5678", "+48 22 123 45 67", "+46 8 123 456 78", "+47 22 12 34 56",
    "+45 33 12 34 56",
    "+358 40 1234567", "+7 (495) 123-45-67", "+7 916 123 45 67", "+86 138 1234 5678",
    "+86 10 6552 9988", "+81 3-1234-5678", "+81 90-1234-5678", "+82 10-1234-5678",
    "+91 98765 43210",
    "+91-22-2778 1234", "+55 11 91234-5678", "+55 (21) 2345-6789", "+52 55 1234 5678",
    "+54 11 4321-1234", "+61 2 9876 5432", "+61 412 345 678", "+27 21 123 4567",
    "+234 803 123 4567",
    "+20 2 2345 6789", "+966 50 123 4567", "+971 4 123 4567", "+972 3-123-4567",
    "+90 212 345 67 89",
    "+62 21 1234 5678", "+66 2 123 4567", "+84 24 1234 5678", "+65 6123 4567", "+852 2345 6789",
    "+886 2 2345 6789", "+30 21 0123 4567", "+351 21 123 4567", "+32 2 123 45 67",
    "+41 44 123 45 67", "+43 1 12345678", "+420 222 123 456", "+36 1 234 5678", "+380 44 123 4567",
    "+966 ٥٠ ١٢٣ ٤٥٦٧", "＋８１－３－１２３４－５６７８", "+98 ۲۱ ۱۲۳۴ ۵۶۷۸", "+91 ९८७६५ ४३२१०",
)  # fmt: skip
_PHONE_TEXTS = (
    "Call {} now", "電話：{}。", "Tel.: {}", "{}", "({})", "phone={}", "联系方式{}谢谢", "Fax {}\n",
    "«{}»", "tel:{}", "t {}, e x", '"phone": "{}",',
)  # fmt: skip
_HOME = (
    "Call (415) 555-2671 today|(415) 555-2671", "415-555-2671 is ours|415-555-2671",
    "or 212.555.0188 for|212.555.0188", "toll free 1-800-555-0199|1-800-555-0199",
    "Phone: 415 555 2671|415 555 2671", "Tel 020 7946 0958|020 7946 0958",
    "Ring 07700 900123 after six|07700 900123", "tel. (0161) 496 0000|(0161) 496 0000",
    "Tél : 01 42 68 53 00|01 42 68 53 00", "au 06 12 34 56 78, merci|06 12 34 56 78",
    "Telefon: 030 901820|030 901820", "Mobil 0171/1234567|0171/1234567",
    "Tel. 089-123456|089-123456",
    "Bel 020-1234567|020-1234567", "06-12345678 van Jan|06-12345678",
    "Telefoon 070 123 45 67|070 123 45 67", "Teléfono 612 345 678|612 345 678",
    "tel. 06 69821234|06 69821234", "電話は03-1234-5678です|03-1234-5678",
    "携帯090-1234-5678まで|090-1234-5678", "电话：010-65529988|010-65529988",
    "手机13812345678|13812345678", "请拨打400-123-4567咨询|400-123-4567",
    "전화 02-123-4567|02-123-4567", "휴대폰: 010-1234-5678|010-1234-5678",
    "ligue (11) 91234-5678|(11) 91234-5678", "telefone (21) 2345-6789|(21) 2345-6789",
    "Тел. 8 (495) 123-45-67|8 (495) 123-45-67", "телефон: 8 916 123 45 67|8 916 123 45 67",
    "mobile: 98765 43210|98765 43210", "फ़ोन: 022-27781234|022-27781234",
    "phone (02) 9876 5432|(02) 9876 5432", "mobile 0412 345 678|0412 345 678",
    "tlf 22 12 34 56|22 12 34 56", "tel: 08-123 456 78|08-123 456 78",
    "puh. 040 1234567|040 1234567",
    "โทร 02-123-4567|02-123-4567", "tel 0031 20 1234567|0031 20 1234567",
    "Kontakt: 801-234-567|801-234-567", "т. 8-800-555-35-35|8-800-555-35-35",
    "Ligue para 0800 123 4567|0800 123 4567", "连络 電話 0800-080-123|0800-080-123",
    'self.phone = "555-867-5309"|555-867-5309', "هاتف ٠١١٢٣٤٥٦٧٨|٠١١٢٣٤٥٦٧٨",
)  # fmt: skip
_ADDRESSES = (
    "93.184.216.34", "8.8.8.8", "151.101.1.69", "203.98.7.65", "52.95.110.1", "185.199.108.153",
    "104.16.132.229", "45.33.32.156", "77.88.55.60", "139.130.4.5", "199.85.126.10", "64.6.64.6",
)  # fmt: skip
_ADDRESS_TEXTS = (
    "server {} is up", "http://{}/index", "{}:8080 refused", '"{}"', "- - [{}] GET", "访问{}即可",
    "ping {}", "from {} to",
)  # fmt: skip
_ADDRESSES_6 = (
    "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:81b::200e", "2620:fe::fe",
    "2a03:2880:f12f:83:face:b00c:0:25de", "2400:cb00:2048:1::c629:d7a2", "2a02:6b8::feed:ff",
)  # fmt: skip
_IDS: tuple[tuple[Callable[[random.Random], str], tuple[str, ...]], ...] = (
    (bsn, ("BSN: {}", "burgerservicenummer {} van", "{} (BSN)")),
    (dni, ("DNI {}", "con D.N.I. {}, vecino de", "NIF: {}")),
    (nie, ("NIE {}", "documento: {}")),
    (codice_fiscale, ("codice fiscale {}", "C.F. {}", "{}")),
    (nir, ("NIR {}", "n° de sécurité sociale : {}")),
    (spaced_nir, ("{}", "assuré {} depuis")),
    (steuer_id, ("Steuer-ID {}", "IdNr. {}", "Identifikationsnummer: {}")),
    (pesel, ("PESEL: {}", "nr PESEL {},")),
    (personnummer, ("personnummer {}", "pnr: {}")),
    (hetu, ("henkilötunnus {}", "HETU: {}")),
    (fodselsnummer, ("fødselsnummer {}", "fnr {}")),
    (cpr, ("CPR-nr. {}", "cpr: {}")),
    (cpf, ("CPF {}", "{}", "portador do CPF nº {},")),
    (cnpj, ("CNPJ {}", "{}")),
    (aadhaar, ("Aadhaar {}", "आधार {}", "UIDAI number {}")),
    (resident_id, ("身份证{}", "身份证号码：{}。", "{}")),
    (rrn, ("주민등록번호 {}", "{}")),
    (nhs, ("NHS number: {}", "NHS no. {}")),
    (sin, ("SIN {}", "social insurance number {}")),
    (ssn, ("SSN: {}", "social security number {}", 'ssn = "{}"')),
)


def positives(seed: int = 0) -> list[Case]:
    """Snippets with one find each, of every type."""
    rng = random.Random(seed)
    marked = []
    for k in range(72):
        address = f"{_NAMES[k % len(_NAMES)]}@{rng.choice(_HOSTS)}"
        marked.append(_MAIL_TEXTS[k % len(_MAIL_TEXTS)].format(f"«email:{address}»"))
    for k, number in enumerate(_PHONES):
        marked.append(_PHONE_TEXTS[k % len(_PHONE_TEXTS)].format(f"«phone:{number}»"))
    for entry in _HOME:
        text, number = entry.split("|")
        marked.append(text.replace(number, f"«phone:{number}»"))
    for k in range(24):
        text = _ADDRESS_TEXTS[k % len(_ADDRESS_TEXTS)]
        marked.append(text.format(f"«ipv4:{_ADDRESSES[k % len(_ADDRESSES)]}»"))
        if k < 14:
            text = ("host {}", "AAAA {}", "[{}]:443")[k % 3]
            marked.append(text.format(f"«ipv6:{_ADDRESSES_6[k % len(_ADDRESSES_6)]}»"))
    for k in range(24):
        separator = " -"[k % 2]
        text = ("card {} exp 12/25", "pay with {}.", "{}", "卡号{}有效")[k % 4]
        marked.append(text.format(f"«payment_card:{grouped_card(rng, separator)}»"))
        text = ("card number: {}", 'cardNumber = "{}"', "信用卡{}", "Visa {} cvv 123")[k % 4]
        marked.append(text.format(f"«payment_card:{card(rng)}»"))
        account = iban(rng)
        if k % 2:
            account = " ".join(account[m : m + 4] for m in range(0, len(account), 4))
        text = ("IBAN {}", "to {}, please", "{}", "账户{}转账")[k % 4]
        marked.append(text.format(f"«iban:{account}»"))
    for draw, texts in _IDS:
        for k in range(4):
            marked.append(texts[k % len(texts)].format(f"«national_id:{draw(rng)}»"))
    tokens: tuple[Callable[[], str], ...] = (
        lambda: aws_key(rng),
        lambda: github_token(rng),
        lambda: f"github_pat_{alphanumeric(rng, 22)}_{alphanumeric(rng, 59)}",
        lambda: f"glpat-{alphanumeric(rng, 20)}",
        lambda: f"xoxb-{_digits(rng, 12)}-{_digits(rng, 12)}-{alphanumeric(rng, 24)}",
        lambda: f"sk_live_{alphanumeric(rng, 24)}",
        lambda: f"AIza{alphanumeric(rng, 35)}",
        lambda: f"sk-proj-{alphanumeric(rng, 48)}",
        lambda: f"sk-ant-api03-{alphanumeric(rng, 93)}AA",
        lambda: f"pypi-AgEIcHlwaS5vcmc{alphanumeric(rng, 150)}",
        lambda: f"npm_{alphanumeric(rng, 36)}",
        lambda: f"hf_{alphanumeric(rng, 34)}",
        lambda: f"SG.{alphanumeric(rng, 22)}.{alphanumeric(rng, 43)}",
        lambda: jwt(rng),
        lambda: pem(rng),
    )
    for k, draw_token in enumerate(tokens * 3):
        text = ("x = '{}'", "export T={}", "Authorization: Bearer {}\n", "密钥{}。")[k % 4]
        marked.append(text.format(f"«key:{draw_token()}»"))
    for k in range(24):
        text = ('api_key = "{}"', '"client_secret": "{}"', "SECRET_TOKEN={}\n", "auth_token: '{}'")
        size = rng.choice((24, 32, 40))
        drawn = alphanumeric(rng, size) if k % 3 else hexadecimal(rng, size)
        marked.append(text[k % 4].format(f"«key:{drawn}»"))
        text = ("password = '{}'", '"db_password": "{}"', "passwd: '{}'", 'PWD="{}"')
        marked.append(text[k % 4].format(f"«password:{alphanumeric(rng, 12)}7»"))
        secret = f"bob{k}:{alphanumeric(rng, 10)}"
        text = ("postgres://{}@db.host.net/x", "git clone https://{}@host.org/r.git")
        marked.append(text[k % 2].format(f"«password:{secret}»"))
    return [case(text) for text in marked]


_NOT_MAIL = (
    "@decorator\ndef f(): pass", "y = A@B.T", "q @ k.transpose(-2, -1)", "icon@2x.png", "x@y.shape",
    "@media print {", "npm i @babel/core@7.0.1", "user@localhost", "follow @tarn on the site",
    "git@github.com:org/repo.git", "a@b", "foo@bar.local", "me@", "@me.com", "a@@b.com",
    "w@x.to(dev)",
    "SELECT @@version.x", "lib@1.2.3", "5@3.20 each", "$@.log", "name@domain", "M@v.dot(u)",
    "pkg@https://host.com/x", "image@3x.jpg", "root@web01:~#", "x@y.z()", "see @a.b.c", "k@v.items",
    "@property.setter", "@1.50 USD",
)  # fmt: skip
_NOT_PHONE = (
    "ISBN 978-3-16-148410-0", "ISBN-13: 9783161484100", "isbn 0-306-40615-2",
    "doi:10.1000/182 2345",
    "10.1145/3442188.3445922", "arXiv:2305.06161", "2024-01-01 12:30:45", "01/02/2024 10:20",
    "20240101123045", "1999-2024", "v1.2.3.4567", "version 2024.11.15", "12345678", "0x12345678",
    "3.14159265358", "1 234 567.89 EUR", "$1,234,567.00", "price 1234567", "1234567890123",
    "1 2 3 4 5 6 7 8 9", "100 200 300 400 500 600", "0.123 0.456 0.789", "10 20 30 40 50 60 70",
    "issue #12345678", "bug 1234567", "commit 1234567", "id: 123456789", "PMID: 12345678",
    "a[1234567]", "1234567 rows", "2147483647", "4294967296", "1e-10 1000000000", "1920x1080 60 30",
    "+12345678", "+ 1234567890", "x+1234567890", "10:20:30 11:22:33", "55.7558 37.6173",
    "lat 40.712776 lon -74.005974", "-122.4194155", "00:1B:44:11:3A:B7", "0001-01-01",
    "1-2-3-4-5-6-7", "setCell(e){ 2097152&t }", "MASK = 1073676288", 'srange("call") "0123456789"',
    "callback(2097152)", "call f(1048576)",
    "Copyright 2001-2010, 2015-2020", "pages 1234-1256", "RFC 2822 5322 6854", "ECCN 5D002 12345",
    "48 b9 01 20 00 04 80", "c.09.09.23.09.32.02", "M 100 200 L 300 400", "9223372036854775807",
    "1234-5678", "12-34-56", "404-500", "3-4-5-6", "0-0-0-0-0-0-0", "serial 555-12-3456-7",
    "order 415-555-2671x", "size=1234567", "Z19870102", "UTC+0530", "2024-W12-3", "1_000_000_000",
    "007 008 009", "1000000007", "998244353", "6.02214076e23", "1.7976931348623157",
    "timestamp 1700000000",
    "1700000000.123456", "20,000,000", "12 345 678", "2.5.29.37.0", "00000000", "0000000000",
    "1111111111",
    "第12345678号", "2024年01月01日", "共1234567人", "价格1234567元", "19 20 21 22 23 24 25",
    "8080 9090 3000",
    "[2023-04-05T06:07:08Z]", "07-11-2023 08-12-2023", "size: 1024 2048 4096", "32768 65536",
)  # fmt: skip
_NOT_ADDRESS = (
    "1.06 1.027 1.028a8.4 8.4 0 0 0-2.469 3.72.75.75 0 0 0", 
    "M6.75 2.5a6.75 6.75 0 1 0 6.75 6.75.75.75 0",
    '"minimum": "3.46.0.12"', "5.57.42.35.1",
    "version 1.2.3.4", "v1.2.3.4", "192.168.0.1", "10.0.0.1", "127.0.0.1", "0.0.0.0",
    "255.255.255.0", "172.16.5.4", "169.254.169.254", "1.2.3.4.5", "1.2.3", "256.1.1.1",
    "300.200.100.50", "Chrome/91.0.4472.124", "2.5.29.37", "1.3.6.1", "1.3.101.112", "3.46.0.6",
    "4.0.0.0 - 4.1.0.0", "== 2.0.1.3", "build 10.0.19041.1", "192.0.2.1", "198.51.100.7",
    "203.0.113.9", "224.0.0.1", "1.2.3.4-rc1", "package_1.2.3.4", "01.02.03.04", "Section 4.3.2.1",
    "12.4.84.32.5", "firmware 8.3.12.4", "x1.22.33.44", "99.99.99.99a", "5.4.3.2 Results",
    "std::vector::iterator", "a::b", "12:34:56", "00:1b:44:11:3a:b7", "fe80::1", "::1", "::",
    "fd00::1234", "ff02::1", "2001:db8::1", "dead::beef", "1:2:3:4", "x[::2]", "abc::def::fed",
    "cafe:babe", "::ffff:10.0.0.1", "b::c::d", "1::2", "10:20:30:40:50:60", "face::feed()",
)  # fmt: skip
_NOT_NUMBER = (
    "4111 1111 1111 1112", "card 4242424242424241", "1234 5678 9012 3456", "0000 0000 0000 0000",
    "card 4111111111111111111111", "5555-5555-5555-5555", "sha 4111111111111111abc",
    "NL91ABNA0417164301", "GB82 WEST 1234 5698 7654 33", "XX82WEST12345698765432", "DE8937040044",
    "bsn 111222334", "BSN 123456789", "DNI 12345678A", "NIE X1234567A", "12345678Z",
    "RSSMRA85T10A562X", "CPF 111.111.111-11", "123.456.789-00", "12.345.678/0001-00",
    "PESEL 44051401358", "personnummer 811228-9873", "HETU 131052-308A", "131052-3081",
    "Steuer-ID 12345678901", "NHS number 943 476 5918", "SIN 046 454 287", "ssn 000-12-3456",
    "ssn 666-12-3456", "ssn 912-34-5678", "123-45-6789 units", "Aadhaar 2345 6789 0123",
    "11010519491331002X", "110105194912310021", "900101-1234567", "part 078-05-1120",
    "046 454 286", "9434765919", "85073003328", "123456782", "fnr 01010112345",
)  # fmt: skip


def negatives(seed: int = 1) -> list[Case]:
    """Snippets in which nothing is personal, though it looks like it."""
    rng = random.Random(seed)
    texts = [*_NOT_MAIL, *_NOT_PHONE, *_NOT_ADDRESS, *_NOT_NUMBER]
    uuid = "123e4567-e89b-12d3-a456-426614174000"
    texts += [
        *("api_key = os.environ['API_KEY']", 'token = "${TOKEN}"', "password = getpass()"),
        *("password=password", 'password = ""', 'password: "changeme"', "secret = 'xxxxxxxxxxxx'"),
        *('password = "your_password_1"', 'eos_token = "<|endoftext|>"', 'pad_token="[PAD]0000"'),
        *('max_tokens = "100000000000000000"', "token_type = 'bearer_token_type_2'"),
        *(
            'public_key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9"',
            "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ),
        *(
            "AKIAXXXXXXXXXXXXXXXX",
            "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-learn-0.24-estimator",
        ),
        *(
            "https://user@host.com/x".replace("user@", ""),
            "http://host:8080/path",
            "xox-oxo-xox-oxo-1",
        ),
        *(
            "https://$USER:$PASS@host/",
            "https://{user}:{password}@host/",
            "eyJ.eyJ.abc",
            "http://a:b/c@d",
        ),
        *(
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----",
            "asia_pacific_region_name",
        ),
        *(
            "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----",
        ),
        *(
            f"request_token = '{uuid}'",
            f"client_secret: {uuid}",
            'license_key = "gpl-3.0-only-2007"',
        ),
        *('secret_name = "projects/my-project-1/secrets"', 'key: "some.config.key.name.1"'),
        *("def token_to_id2(self, token: TokenType2): ...", "<password>", "<email-1>", "<key>"),
        *('"tokenizer_class": "GPT2TokenizerFast2024"', "keys = ['a1b2', 'c3d4']", "api_key: str"),
    ]
    texts += [
        "PrivateKeyInfo = rfc5958.EncryptedPrivateKeyInfo",
        '"spdx_license_key": "LicenseRef-scancode-psion-s3aemul"',
        "key: PositionalIndexer2D,",
        "password = self.password2",
    ]
    for name, size in (("sha1", 40), ("md5", 32), ("sha256", 64), ("commit", 40), ("etag", 32)):
        for text in ("{}: {}", '{} = "{}"', "token {} {}", '"{}_key": "{}"', "# {} {}"):
            texts.append(text.format(name, hexadecimal(rng, size)))
    for _ in range(20):
        texts.append(f"ghp_{alphanumeric(rng, 36)}")  # no checksum
        texts.append(f"index {hexadecimal(rng, 10)}..{hexadecimal(rng, 10)} 100644")
        texts.append(f"{rng.random()} {rng.random()}, {rng.randrange(10**9)}")
        texts.append(f"{_digits(rng, 16)},{_digits(rng, 16)}")
    return [Case(text, ()) for text in texts]
