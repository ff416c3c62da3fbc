"""Payment cards, bank accounts and national identifiers: numbers that check themselves.

Each national scheme is one ``Scheme``: the shape of the number, its check, and the words that name
it. A check digit alone lets one random number in ten pass, so most schemes ask for such a word
nearby; those with a long check, a date inside or an unusual shape do without.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache, reduce
from operator import or_

from datalake.transforms.personal.checks import (
    is_luhn,
    is_verhoeff,
    iso_7064_mod_97,
    weighted_sum,
)
from datalake.transforms.personal.window import Match, Vocabulary, Window

# Issuers' ranges of leading digits and lengths (ISO/IEC 7812; the networks' public tables).
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|[689]\d)\d{11}"  # Diners Club
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|62\d{14,17}"  # UnionPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"  # Maestro
    r"|220[0-4]\d{12}"  # Mir
    r"|(?:60|65|81|82|508)\d{13,14}"  # RuPay
)
_CARD_SHAPE = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ -])\d{6}\2\d{4,5}")
_BARE_CARD = re.compile(r"\d{13,19}")
CARD_WORDS = Vocabulary(
    "card", "cards", "credit", "debit", "visa", "mastercard", "amex", "american express", "maestro",
    "discover", "diners", "jcb", "unionpay", "pan", "cardnumber", "creditcard",
    "cc", "ccnum", "cvv", "cvc", "kreditkarte", "kaart", "kaartnummer", "carte", "tarjeta", "carta",
    "cartão", "cartao", "карта", "карты", "карте", "kort", "kortnummer", "信用卡", "银行卡", "卡号",
    "カード", "카드", "بطاقة", "कार्ड",
)  # fmt: skip


def payment_cards(window: Window) -> Iterator[Match]:
    """Card numbers of 13 to 19 digits with an issuer's prefix and a Luhn digit."""
    run = window.plain[window.start : window.end]
    for found in _CARD_SHAPE.finditer(run):
        around = run[found.start() - 1 : found.start()] + run[found.end() : found.end() + 1]
        digits = re.sub(r"\D", "", found.group())
        if not re.search(r"[\d.\-]", around) and _is_card(digits):
            yield Match(
                window.start + found.start(), window.start + found.end(), "payment_card", digits
            )
            return
    bare = _BARE_CARD.match(run)
    if bare is None or run[bare.end() : bare.end() + 1] not in ("", " "):
        return
    if _is_card(bare.group()) and window.says(CARD_WORDS):
        yield Match(window.start, window.start + bare.end(), "payment_card", bare.group())


def _is_card(digits: str) -> bool:
    return bool(_ISSUERS.fullmatch(digits)) and len(set(digits)) > 1 and is_luhn(digits)


# Length of an IBAN by country (SWIFT IBAN Registry, release 99).
_IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27"
    " DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22"
    " IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19"
    " MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31"
    " SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)


@cache
def _iban_lengths() -> dict[str, int]:
    return {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}


def ibans(window: Window) -> Iterator[Match]:
    """Account numbers of ISO 13616: the country's length, and 1 modulo 97."""
    run = window.plain[window.start : window.end]
    size = _iban_lengths().get(run[:2])
    if size is None:
        return
    compact, end = "", 0
    while end < len(run) and len(compact) < size:
        compact += run[end].strip()
        end += 1
    free = end == len(run) or run[end] == " "
    if len(compact) == size and free and compact.isupper() and iso_7064_mod_97(compact):
        yield Match(window.start, window.start + end, "iban", compact)


@dataclass(frozen=True)
class Scheme:
    """One country's identifier: its shape, its check of the characters alone, and its names."""

    shape: re.Pattern[str]
    is_valid: Callable[[str], bool]
    names: Vocabulary
    alone: re.Pattern[str] | None  # the spelling that needs no name nearby

    def needs_name(self, text: str) -> bool:
        return self.alone is None or self.alone.fullmatch(text) is None


def national_ids(window: Window) -> Iterator[Match]:
    """Identifiers of persons and companies whose scheme's check holds."""
    run = window.plain[window.start : window.end]
    named = window.says(ID_WORDS)
    starts = [0, *(k + 1 for k, character in enumerate(run) if character == " ")]
    for scheme in SCHEMES.values() if named else _ALONE:
        for start in starts:
            found = scheme.shape.match(run, start)
            if found is None or run[found.end() : found.end() + 1] not in ("", " "):
                continue
            compact = _SIGNS.sub("", found.group()).upper()
            if len(set(compact)) < 3 or not scheme.is_valid(compact):
                continue
            if scheme.needs_name(found.group()) and not (named and window.says(scheme.names)):
                continue
            yield Match(window.start + start, window.start + found.end(), "national_id", compact)
            return


_SIGNS = re.compile(r"[\s./-]")


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        return date(year, month, day) <= date(2100, 1, 1)
    except ValueError:
        return False


def _is_day(day: str, month: str) -> bool:
    return _is_date(2000, int(month), int(day))


def _bsn(n: str) -> bool:
    return weighted_sum(n, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _dni(n: str) -> bool:
    number = int(n[:-1].translate(str.maketrans("XYZ", "012")))
    return n[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3)
        + (6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def _codice_fiscale(n: str) -> bool:
    odd = sum(_ODD[c] for c in n[:15:2])
    even = sum(int(c) if c.isdigit() else ord(c) - 65 for c in n[1:15:2])
    return chr(65 + (odd + even) % 26) == n[15]


def _nir(n: str) -> bool:
    number = n[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(n[13:])


def _steuer_id(n: str) -> bool:
    counts = sorted(n[:10].count(d) for d in set(n[:10]))
    if n[0] == "0" or counts[-1] not in (2, 3) or (len(counts) > 1 and counts[-2] > 1):
        return False
    product = 10  # ISO 7064, mod 11, 10
    for digit in n[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(n[10])


def _pesel(n: str) -> bool:
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[int(n[2]) // 2]
    month = int(n[2:4]) % 20
    dated = _is_date(century % 400 + 2000 - (century % 400) + int(n[:2]) % 100, month, int(n[4:6]))
    return dated and weighted_sum(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _personnummer(n: str) -> bool:
    n = n.replace("+", "")[-10:]
    day = int(n[4:6])
    return _is_day(f"{day - 60 if day > 60 else day}", n[2:4]) and is_luhn(n)


def _hetu(n: str) -> bool:
    number = n[:6] + n[-4:-1]
    return _is_day(n[:2], n[2:4]) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == n[-1]


def _fodselsnummer(n: str) -> bool:
    day = int(n[:2])
    return (
        _is_day(f"{day - 40 if day > 40 else day}", n[2:4])
        and weighted_sum(n, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted_sum(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def _cpr(n: str) -> bool:
    return _is_day(n[:2], n[2:4]) and weighted_sum(n, (4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def _cpf(n: str) -> bool:
    return all(
        weighted_sum(n[: k + 1], tuple(range(k + 1, 0, -1))) % 11 in (0, 1)
        and int(n[k]) == (weighted_sum(n[:k], tuple(range(k + 1, 1, -1))) * 10 % 11 % 10)
        for k in (9, 10)
    )


def _cnpj(n: str) -> bool:
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return all(
        int(n[k]) == (11 - rest if (rest := weighted_sum(n[:k], weights[13 - k :]) % 11) > 1 else 0)
        for k in (12, 13)
    )


def _resident_id(n: str) -> bool:
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    dated = n[6:8] in ("19", "20") and _is_date(int(n[6:10]), int(n[10:12]), int(n[12:14]))
    return dated and n[17] == "10X98765432"[weighted_sum(n[:17], weights) % 11]


def _rrn(n: str) -> bool:
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    checked = (11 - weighted_sum(n[:12], weights) % 11) % 10 == int(n[12])
    # Numbers given out since October 2020 have no check digit.
    return _is_day(n[4:6], n[2:4]) and n[6] in "12345678" and (checked or n[:2] in ("20", "21"))


def _nhs(n: str) -> bool:
    check = 11 - weighted_sum(n[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == int(n[9])


def _ssn(n: str) -> bool:
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000"


def _scheme(
    shape: str, valid: Callable[[str], bool], *names: str, alone: str | None = None
) -> Scheme:
    spelt = re.compile(alone) if alone else None
    return Scheme(re.compile(shape), valid, Vocabulary(*names, *_ANY_COUNTRY), spelt)


_ANY_COUNTRY = (
    "national id", "national identification", "identity number", "identity card", "id number",
    "personal number", "personal id", "id card",
)  # fmt: skip
SCHEMES: dict[str, Scheme] = {
    "nl bsn": _scheme(
        r"\d{9}|\d{4}[. ]\d\d[. ]\d{3}|\d{3}[. ]\d{3}[. ]\d{3}", _bsn, "bsn", "burgerservicenummer",
        "burgerservicenr", "sofinummer", "sofi nummer", "sofi",
    ),
    "es dni": _scheme(
        r"(?:\d{8}|\d{2}\.\d{3}\.\d{3}|[XYZ]-?\d{7})[ -]?[A-HJ-NP-TV-Z]", _dni, "dni", "nie", "nif",
        "documento nacional de identidad", "documento", "identidad", "ciudadano",
    ),
    "it codice fiscale": _scheme(
        r"[A-Z]{6}[\dL-NP-V]{2}[ABCDEHLMPRST][\dL-NP-V]{2}[A-Z][\dL-NP-V]{3}[A-Z]",
        _codice_fiscale, "codice fiscale", "cf", alone=r"[A-Z].*",
    ),
    "fr nir": _scheme(
        r"[1-478] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", _nir,
        "nir", "sécurité sociale", "securite sociale", "sécu", "insee", "n ss", "assuré",
        alone=r"\d \d\d \d\d \S\S \d{3} \d{3} \d\d",
    ),
    "de steuer-id": _scheme(
        r"\d{11}|\d\d \d{3} \d{3} \d{3}", _steuer_id, "steuer id", "steuerid", "idnr", "tin",
        "steueridentifikationsnummer", "identifikationsnummer", "steuerliche", "steuernummer",
        "steuer identifikationsnummer", "steuer idnr",
    ),
    "pl pesel": _scheme(r"\d{11}", _pesel, "pesel"),
    "se personnummer": _scheme(
        r"(?:19|20)?\d{6}[-+]?\d{4}", _personnummer, "personnummer", "personnr", "pnr",
        "samordningsnummer", "person nr", "personnumret",
    ),
    "fi henkilotunnus": _scheme(
        r"\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-FHJ-NPR-Y]", _hetu, "hetu", "henkilötunnus",
        "henkilotunnus", "henkilötunnuksen", "sotu", "personbeteckning",
        alone=r"\d{6}[-+A]\d{3}[A-Y]",
    ),
    "no fodselsnummer": _scheme(
        r"\d{6} ?\d{5}", _fodselsnummer, "fødselsnummer", "fodselsnummer", "fnr", "personnummer",
        "d nummer", alone=r"\d{6} \d{5}",
    ),
    "dk cpr": _scheme(
        r"\d{6}[- ]?\d{4}", _cpr, "cpr", "cprnr", "personnummer",
    ),
    "br cpf": _scheme(
        r"\d{3}\.?\d{3}\.?\d{3}-?\d\d", _cpf, "cpf", alone=r"\d{3}\.\d{3}\.\d{3}-\d\d"
    ),
    "br cnpj": _scheme(
        r"\d\d\.?\d{3}\.?\d{3}/?\d{4}-?\d\d", _cnpj, "cnpj", alone=r"\d\d\.\d{3}\.\d{3}/\d{4}-\d\d"
    ),
    "in aadhaar": _scheme(
        r"[2-9]\d{3}([ -]?)\d{4}\1\d{4}", is_verhoeff, "aadhaar", "aadhar", "adhaar", "uidai",
        "uid", "आधार",
    ),
    "cn resident id": _scheme(
        r"[1-9]\d{16}[\dXx]", _resident_id, "身份证", alone=r".*"
    ),
    "kr rrn": _scheme(
        r"\d{6}-?\d{7}", _rrn, "주민등록번호", "주민번호", "rrn", "resident registration",
        alone=r"\d{6}-\d{7}",
    ),
    "gb nhs": _scheme(
        r"\d{3}([ -]?)\d{3}\1\d{4}", _nhs, "nhs", "nhs no",
    ),
    "ca sin": _scheme(
        r"[0-79]\d\d([ -]?)\d{3}\1\d{3}", is_luhn, "sin", "social insurance", 
        "assurance sociale", "nas",
    ),
    "us ssn": _scheme(
        r"\d{3}([ -])\d\d\1\d{4}|\d{9}", _ssn, "ssn", "ssns", "social security", "soc sec",
                "taxpayer",
    ),
}  # fmt: skip
_ALONE = [scheme for scheme in SCHEMES.values() if scheme.alone]
ID_WORDS = reduce(or_, (scheme.names for scheme in SCHEMES.values()))
