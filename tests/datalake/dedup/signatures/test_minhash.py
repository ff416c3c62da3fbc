"""MinHash: signatures against a plain twin and the peers, bands against theory, hard texts."""

import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from datalake.config import Refusal
from datalake.dedup.signatures import word_folds
from datalake.dedup.signatures.minhash import (
    Banding,
    BandsConfig,
    FinewebConfig,
    MinHashConfig,
    TextDedupConfig,
    ThresholdConfig,
    best_bands,
    sign,
)
from datalake.filters.measures.characters import TABLE_SIZE
from datalake.run import SignalsConfig
from tests.datalake.dedup.signatures.plain_minhash import plain_keys, plain_minima, plain_words

BANDS = Banding.of(BandsConfig())
FINEWEB = Banding.of(FinewebConfig(kind="fineweb"))

SENTENCES = {
    "English": "The quick brown fox jumps over the lazy dog, and nobody_saw 12 of them run.",
    "French": "L'été dernier, les élèves français ont mangé des crêpes près de la forêt.",
    "Greek": "Ο Σίσυφος ανεβάζει τον βράχο κάθε μέρα, ΞΑΝΑ ΚΑΙ ΞΑΝΑ, χωρίς τέλος.",
    "Russian": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Hindi": "यह एक हिन्दी वाक्य है जिसमें कई शब्द और मात्राएँ हैं।",
    "Arabic": "هذه جملة عربية قصيرة تحتوي على عدة كلمات وعلامات.",
    "Korean": "한국어 문장은 띄어쓰기가 있어서 단어를 쉽게 나눌 수 있다.",
    "Chinese": "敏捷的棕色狐狸跳过了懒狗，没有人看见它们跑。",
    "Japanese": "素早い茶色の狐がのろまな犬を飛び越え、ガラスを見た。",
    "Thai": "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
}


def keys_of(*texts: str | None, hashing: Banding = BANDS) -> list[list[int]]:
    return sign(pa.array(texts, pa.large_string()), hashing)[0].to_pylist()


def strange_texts(number: int, seed: int = 0) -> list[str]:
    """Texts over characters of all kinds, words of all lengths, blocks begun and crossed."""
    draw = random.Random(seed)
    ranges = ((0x20, 0x7F), (0, 0x300), (0x300, 0x600), (0x900, 0xE80), (0x1E00, 0x2100))
    ranges += ((0x3000, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x10000, 0x11000))
    texts = []
    for _ in range(number):
        low, high = draw.choice(ranges)
        letters = [chr(draw.randrange(low, high)) for _ in range(30)]
        letters += list("aB9_,.  \n\u00ad\u200bΣς'İ\ufe0f") * draw.randrange(3)
        texts.append("".join(draw.choices(letters, k=draw.choice((7, 40, 70, 300, 9000)))))
    return texts


def assert_signed_as(texts: list[str], words: list[list[str]], hashing: Banding) -> None:
    keys, signatures = sign(pa.array(texts, pa.large_string()), hashing)
    assert len(keys) == len(signatures) == len(texts)
    num_signed = 0
    for text, its, got, signature in zip(
        texts, words, keys.to_pylist(), signatures.to_pylist(), strict=True
    ):
        shingles = {tuple(its[k : k + 5]) for k in range(len(its) - 4)}
        if len(shingles) < hashing.min_distinct:
            assert (got, signature) == ([], None), text
            continue
        num_signed += 1
        minima = plain_minima(its, hashing)
        assert np.array_equal(np.frombuffer(signature, "<u4"), minima.astype(np.uint32)), text
        assert got == plain_keys(minima, hashing.num_rows), text
    assert num_signed > len(texts) // 2


def test_signatures_are_those_of_a_plain_loop_over_words() -> None:
    texts = [*SENTENCES.values(), *strange_texts(60)]
    assert_signed_as(texts, [plain_words(text) for text in texts], BANDS)


def test_fineweb_signs_what_datatroves_normalisation_leaves() -> None:
    from datatrove.utils.text import simplify_text

    texts = [*SENTENCES.values(), *strange_texts(60, seed=1)]
    texts.append("On 1.5.2024, ٣٫٥ of 12,000 items (v2.0.1) cost ১২ each; 007's x1y22z file_name.")
    simplified = [simplify_text(text).replace("ς", "σ") for text in texts]
    words = [plain_words(text, fold=str) for text in simplified]
    assert_signed_as(texts, words, FINEWEB)


def test_fineweb_has_no_keys_for_a_table_of_numbers() -> None:
    table = "\n".join(f"{k}.5 {k * 7} {k * 11},25" for k in range(100))
    assert keys_of(table, hashing=FINEWEB) == [[]]
    assert len(keys_of(table)[0]) == 14
    one = Banding.of(FinewebConfig(kind="fineweb", min_distinct=1))
    assert len(keys_of(table, hashing=one)[0]) == 14


def test_fineweb_permutations_are_datatroves() -> None:
    a, b = FINEWEB.permutations()
    assert (a[0], b[0]) == (775169054918279404, 1062448801025099917)


@pytest.mark.parametrize("language", SENTENCES)
def test_composed_and_decomposed_text_have_the_same_keys(language: str) -> None:
    forms = [unicodedata.normalize(form, SENTENCES[language]) for form in ("NFC", "NFD")]
    composed, decomposed = keys_of(*forms)
    assert composed == decomposed and len(composed) == 14


def test_words_of_indic_scripts_stay_whole() -> None:
    assert plain_words("हिन्दी में") == ["हिन्दी", "में"]
    assert plain_words(SENTENCES["Hindi"]) == [
        unicodedata.normalize("NFD", word) for word in SENTENCES["Hindi"].rstrip("।").split()
    ]


def test_characters_of_scripts_without_spaces_are_words_with_their_marks() -> None:
    assert plain_words("東京 is x1") == ["東", "京", "is", "x1"]
    assert plain_words("ที่นี่") == ["ที่", "นี่"]
    assert plain_words("ガx") == ["カ\u3099", "x"]


def test_one_changed_character_leaves_most_of_a_chinese_page() -> None:
    page = "".join(chr(0x4E00 + random.Random(k).randrange(3000)) for k in range(2000))
    changed = page[:1000] + "的" + page[1001:]
    a, b = keys_of(page, changed)
    assert len(set(a) & set(b)) >= 7


def test_case_punctuation_and_invisible_characters_do_not_change_the_keys() -> None:
    keys = keys_of(
        "One two, three: four (five) straße Σίσυφος ΟΔΟΣ",
        "one two three four five STRASSE σίσυφοσ οδος",
        "ONE-TWO\nthree\x00four fi\u00adve! stra\u200dße\ufeff ΣΊΣΥΦΟΣ ΟΔΟΣ",
    )
    assert keys[0] == keys[1] == keys[2] != []


def test_texts_shorter_than_a_shingle_and_nulls_have_no_keys_and_match_nothing() -> None:
    texts = ["", "x", "...", "a b c d", "a b c d e", None, " ", "\x00" * 1000]
    keys, signatures = sign(pa.array(texts, pa.string()), BANDS)
    assert [len(k) for k in keys.to_pylist()] == [0, 0, 0, 0, 14, 0, 0, 0]
    assert [s and len(s) for s in signatures.to_pylist()] == [None] * 4 + [448] + [None] * 3


def test_no_documents_have_no_keys() -> None:
    keys, signatures = sign(pa.array([], pa.large_string()), BANDS)
    assert (len(keys), len(signatures)) == (0, 0)


@pytest.mark.parametrize("hashing", [BANDS, FINEWEB], ids=["bands", "fineweb"])
def test_a_slice_of_a_column_is_signed_as_its_texts_are(hashing: Banding) -> None:
    texts = [*SENTENCES.values(), None, *strange_texts(5)]
    column = pa.array(texts, pa.large_string())
    whole, cut = sign(column, hashing), sign(column.slice(3, 9), hashing)
    alone = sign(pa.array(texts[3:12], pa.large_string()), hashing)
    for one, part, single in zip(whole, cut, alone, strict=True):
        assert part.to_pylist() == one.slice(3, 9).to_pylist() == single.to_pylist()


@pytest.mark.parametrize("kind", ["bands", "fineweb", "text_dedup"])
def test_bytes_that_are_not_text_are_signed_without_harm(kind: str) -> None:
    hashing = Banding.of(TypeAdapter(MinHashConfig).validate_python({"kind": kind}))
    draw = np.random.default_rng(0)
    cut = ["é".encode()[:1], "日".encode()[:2], "😀".encode()[:3], b"\xed\xa0\x80", b"\xff" * 9]
    rows = [b"one two three four five six" + end for end in cut]
    rows += [draw.integers(0, 256, 5000, dtype=np.uint8).tobytes() for _ in range(20)]
    rows += [b"\xff" * 5000, b"\xc3\x8f" * 5000, b"\xc8\xba" * 9000, b"\xce\xa3" * 5000]
    ends = np.cumsum([0, *map(len, rows)])
    content = pa.py_buffer(b"".join(rows))
    text = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(ends), content)
    keys = sign(text, hashing)[0].to_pylist()
    for row, got in zip(rows, keys, strict=True):
        column = pa.LargeStringArray.from_buffers(
            1, pa.py_buffer(np.array([0, len(row)])), pa.py_buffer(row)
        )
        assert sign(column, hashing)[0].to_pylist() == [got]
    if kind == "bands":
        assert keys[0] == keys[4] == keys_of("one two three four five six")[0]


def test_a_text_without_white_space_is_one_word() -> None:
    text = "".join(random.Random(0).choices("abcdef0123", k=1_000_000))
    assert keys_of(text) == [[]]
    several = f"{text} {text[1:]} {text[2:]} b c"
    minima = plain_minima(several.split(), BANDS)
    assert keys_of(several) == [plain_keys(minima, 8)]


def test_many_copies_of_a_line_are_the_set_that_two_copies_are() -> None:
    line = "the same seven words on each line\n"
    once, twice, often = keys_of(line, line * 2, line * 100_000)
    assert once != twice == often


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bands", "fineweb", "text_dedup"])
def test_texts_of_hundreds_of_megabytes_are_signed(kind: str) -> None:
    hashing = Banding.of(TypeAdapter(MinHashConfig).validate_python({"kind": kind}))
    line = "the same seven words on each line\n"
    small, large = sign(pa.array([line * 3, line * 10_000_000], pa.large_string()), hashing)[0]
    assert kind != "bands" or small == large
    solid = pa.array(["x" * 200_000_000, "語" * 70_000_000], pa.large_string())
    keys = sign(solid, hashing)[0]
    expected = {"bands": [0, 14], "fineweb": [0, 0], "text_dedup": [25, 25]}
    assert [len(k) for k in keys] == expected[kind]


def test_a_folded_run_fits_the_room_that_kernels_leave() -> None:
    from datalake.dedup.signatures.minhash_kernels import RUN, SLACK

    for folding in (word_folds.words(), word_folds.fineweb(), word_folds.text_dedup()):
        points = np.arange(TABLE_SIZE)
        widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        grown = np.diff(folding.starts) / widths
        if folding is word_folds.text_dedup():
            assert grown.max() <= 1.5
        else:  # and a zero before the character
            assert ((np.diff(folding.starts) + 1) / widths).max() * (RUN + 3) <= SLACK - 16
            assert not (folding.content == 0).any()


@pytest.mark.parametrize("shared", [60, 75, 85, 95])
@pytest.mark.parametrize("hashing", [BANDS, FINEWEB], ids=["bands", "fineweb"])
def test_pairs_share_a_key_as_often_as_theory_says(shared: int, hashing: Banding) -> None:
    config = {"shingle_words": 1, "num_bands": 14, "num_rows": 8}
    kind = FinewebConfig(kind="fineweb", **config) if hashing is FINEWEB else BandsConfig(**config)
    hashing = Banding.of(kind)
    letters = str.maketrans("0123456789", "ghijklmnop")  # FineWeb's numbers are all one
    names = random.Random(shared).sample(range(10**9), 140_000)
    words = [f"{name:x}".translate(letters) for name in names]
    num_pairs, texts, taken = 1000, [], 0
    for _ in range(num_pairs):
        own = 100 - shared
        common = words[taken : taken + shared]
        texts.append(" ".join(common + words[taken + shared : taken + 100]))
        texts.append(" ".join(common + words[taken + 100 : taken + 100 + own]))
        taken += 100 + own
    keys = keys_of(*texts, hashing=hashing)
    pairs = zip(keys[::2], keys[1::2], strict=True)
    found = sum(bool(set(a) & set(b)) for a, b in pairs) / num_pairs
    expected = hashing.detection_probability(shared / (200 - shared))
    deviation = (expected * (1 - expected) / num_pairs) ** 0.5
    assert abs(found - expected) < 4 * deviation + 1e-3


def test_a_signature_estimates_similarity_without_bias() -> None:
    hashing = Banding.of(BandsConfig(shingle_words=1, num_bands=64, num_rows=8))
    errors = []
    for pair in range(300):
        common = [f"c{pair}x{k}" for k in range(60)]
        sides = [" ".join(common + [f"{s}{pair}x{k}" for k in range(40)]) for s in "ab"]
        a, b = sign(pa.array(sides), hashing)[1].to_pylist()
        errors.append((np.frombuffer(a, "<u4") == np.frombuffer(b, "<u4")).mean() - 60 / 140)
    deviation = (60 / 140 * 80 / 140 / 512) ** 0.5  # of independent permutations
    assert abs(np.mean(errors)) < 4 * deviation / 300**0.5
    assert 0.85 < np.std(errors) / deviation < 1.15


def test_a_threshold_chooses_text_dedups_optimal_bands() -> None:
    from text_dedup.utils import optimal_param

    known = {(0.7, 256): (25, 10), (0.7, 128): (14, 9), (0.8, 256): (17, 15), (0.5, 256): (42, 6)}
    for (threshold, num_perm), expected in known.items():
        config = ThresholdConfig(kind="threshold", threshold=threshold, num_perm=num_perm)
        banding = Banding.of(config)
        assert (banding.num_bands, banding.num_rows) == expected
    for threshold in (0.2, 0.55, 0.7, 0.75, 0.8, 0.9):
        for num_perm in (2, 9, 64, 128, 250):
            assert best_bands(threshold, num_perm) == optimal_param(threshold, num_perm)


def test_a_recipe_says_bands_a_threshold_fineweb_or_text_dedup() -> None:
    def said(minhash: str) -> object:
        return SignalsConfig.model_validate_json(f'{{"minhash": {minhash}}}').minhash

    assert said('{"kind": "threshold", "threshold": 0.7, "num_perm": 128}') == ThresholdConfig(
        kind="threshold", threshold=0.7, num_perm=128
    )
    assert said('{"kind": "bands", "num_bands": 20}') == BandsConfig(num_bands=20)
    assert said('{"kind": "fineweb"}') == FinewebConfig(kind="fineweb")
    assert said('{"kind": "text_dedup"}') == TextDedupConfig(kind="text_dedup")
    assert SignalsConfig().minhash == BandsConfig(num_bands=14, num_rows=8)


def test_fourteen_bands_of_eight_find_what_fineweb_says() -> None:
    found = [round(100 * BANDS.detection_probability(s), 1) for s in (0.5, 0.7, 0.75, 0.8, 0.85)]
    assert found == [5.3, 56.5, 77.2, 92.4, 98.8]
    assert round(BANDS.threshold, 2) == 0.72


def test_no_bands_are_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        BandsConfig(num_bands=0)


def test_a_threshold_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        ThresholdConfig(kind="threshold", threshold=1.0, num_perm=128)


def test_bands_without_rows_are_refused() -> None:
    said = "num_bands and num_rows must be given together, got num_bands alone"
    with pytest.raises(ValidationError, match=said):
        TextDedupConfig(kind="text_dedup", num_bands=14)


def test_more_bands_than_permutations_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_bands x num_rows must be at most 250, got 260"):
        TextDedupConfig(kind="text_dedup", num_bands=26, num_rows=10)


def test_a_column_too_long_for_its_offsets_is_refused() -> None:
    many = pa.nulls(5_000_000, pa.large_string())
    with pytest.raises(Refusal, match="text must have at most 4,793,490 rows at a time, got 5,0"):
        sign(many, BANDS)
