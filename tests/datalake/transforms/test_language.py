"""Which language a document is in."""

import pytest

from datalake.transforms.language import of_code, of_prose

TEXTS = {
    "en": "The quick brown fox jumps over the lazy dog and then runs into the woods, where it "
    "hides until the evening. After that it comes home.",
    "de": "Der schnelle braune Fuchs springt über den faulen Hund und läuft dann in den Wald, "
    "wo er sich bis zum Abend versteckt. Danach kehrt er heim.",
    "fr": "Le renard brun et rapide saute par-dessus le chien paresseux, puis il court dans la "
    "forêt où il se cache jusqu'au soir avant de rentrer.",
    "ru": "Быстрая коричневая лиса прыгает через ленивую собаку, а потом бежит в лес, где "
    "прячется до самого вечера.",
    "ja": "これは日本語の文章です。",
    "zh": "这是一个中文句子。",
    "ko": "이것은 한국어 문장입니다.",
    "th": "นี่คือประโยคภาษาไทย",
}


@pytest.mark.parametrize("language", TEXTS)
def test_prose_is_told_by_its_letters(language: str) -> None:
    assert of_prose(TEXTS[language]) == language
    # A page that keeps the language of its template does not mislead.
    assert of_prose(TEXTS[language], "en-US") == language


def test_a_declared_language_decides_where_the_letters_leave_it_open() -> None:
    names = "complex(real=0, imag=0) conjugate() getnewargs() hash() imag real repr() sub()"
    others = {of_prose(names, declared) for declared in (None, "ja", "xx", "")}
    assert of_prose(names, "en") == "en" and len(others) == 1


@pytest.mark.parametrize("text", ["", "   \n", "12 34 56", "!?!", "3.14 " * 500])
def test_what_has_no_letters_has_no_language(text: str) -> None:
    assert of_prose(text, "en") == "unknown"


def test_numbers_are_no_chinese() -> None:
    table = "\n".join(f"SRE_{n} = {n * 7919}" for n in range(300))
    assert of_prose(table, "en") not in ("zh", "ja", "ko", "th")


def test_code_is_told_by_its_name_and_its_text() -> None:
    assert of_code("a/b.py") == "python"
    assert [of_code("a.h"), of_code("a.h", "class A {};")] == ["c", "cpp"]
    assert of_code("a.xyz") == "unknown"
