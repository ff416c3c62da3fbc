"""A megabyte each of English, code, Chinese, Japanese, Thai, Arabic and emoji, without a download.

English and code are the standard library's own help and source. The others are drawn, the common
words often and the rare seldom (Zipf), from sentences written for this file, with made-up words of
the script's whole block between them, so that rare characters stand beside common ones; emoji from
all that have a name, with skin tones, joiners, selectors and flags.
"""

import json
import pydoc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from random import Random

SIZE = 1_000_000  # bytes

_CHINESE = (
    "我们 今天 在 学校 学习 语言 模型 。 天气 很好 ， 他 说 ： “ 你好 ！ ” 人工智能 的 发展 "
    "（ 北京 ） 2025 年 、 上海 、 广州 ； 这本书 多少 钱 ？ 三百 二十 五 元 《 红楼梦 》 … — \n"
)
_JAPANESE = (
    "私は 学生 です 。 東京 は とても 大きい 町 で 、 毎日 電車 に 乗ります ！ コンピュータ "
    "「 おはよう ございます 」 と 言った 。 ２０２５年 １２月 ・ ー ｶﾀｶﾅ 々 〆 か\u3099 \u3000\n"
)
_THAI = (
    "ภาษา ไทย เป็น ภาษา ที่ ไม่ มี ช่องว่าง ระหว่าง คำ วันนี้ อากาศ ดี มาก ๆ กรุงเทพฯ ๒๕๖๘ บาท "
    "฿ น้ำ เปล่า ๑๒๓ , . ! \n"
)
_ARABIC = (
    "اللغة العربية جميلة ، كتاب الله ؟ مُحَمَّدٌ رَسُولُ ١٢٣٤ ٥٦٫٧٨ في المدينة ؛ قال : « مرحبا » "
    "ـــ لا إله \u200f\u200e ﷺ ﻻ \n"
)


def megabyte(name: str) -> str:
    """About ``SIZE`` bytes of one of ``LANGUAGES``, always the same."""
    return LANGUAGES[name](Random(name))


def _english(random: Random) -> str:
    pages = list(topics.values())
    return _filled(lambda: random.choice(pages), random)


def _code(random: Random) -> str:
    folder = Path(pydoc.__file__).parent
    paths = sorted([*folder.glob("*.py"), *Path(json.__file__).parent.glob("*.py")])
    return _filled(lambda: random.choice(paths).read_text(encoding="utf-8"), random)


def _script(words: str, blocks: list[tuple[int, int]], space: str) -> Callable[[Random], str]:
    known = words.split(" ")
    characters = [chr(c) for first, last in blocks for c in range(first, last + 1)]

    def some(random: Random) -> str:
        rank = min(int(random.paretovariate(0.7)), len(known)) - 1
        word = known[rank]
        if random.random() < 0.2:
            word = "".join(random.choice(characters) for _ in range(random.randint(1, 6)))
        return word + (space if random.random() < 0.5 else "")

    return lambda random: _filled(lambda: some(random), random)


def _emoji(random: Random) -> str:
    pictures = [c for c in map(chr, range(0x2190, 0x1FAFF)) if unicodedata.category(c) == "So"]
    tones = [chr(c) for c in range(0x1F3FB, 0x1F400)]
    letters = [chr(c) for c in range(0x1F1E6, 0x1F200)]

    def some() -> str:
        picture = random.choice(pictures)
        return random.choice(
            [
                picture,
                picture + random.choice(tones),
                f"{picture}\u200d{random.choice(pictures)}\ufe0f",
                random.choice(letters) + random.choice(letters),
                f"{random.randint(0, 9)}\ufe0f\u20e3",
                " so much fun ",
                "!\n",
            ]
        )

    return _filled(some, random)


def _filled(some: Callable[[], str], random: Random) -> str:
    parts: list[str] = []
    size = 0
    while size < SIZE:
        parts.append(some())
        size += len(parts[-1].encode())
    return "".join(parts)


LANGUAGES: dict[str, Callable[[Random], str]] = {
    "English": _english,
    "code": _code,
    "Chinese": _script(_CHINESE, [(0x4E00, 0x9FFF), (0x3001, 0x3011)], ""),
    "Japanese": _script(_JAPANESE, [(0x3041, 0x30FF), (0x4E00, 0x5500), (0xFF01, 0xFF9F)], ""),
    "Thai": _script(_THAI, [(0x0E01, 0x0E3A), (0x0E3F, 0x0E5B)], " "),
    "Arabic": _script(_ARABIC, [(0x0600, 0x06FF), (0xFB50, 0xFDFF)], " "),
    "emoji": _emoji,
}
