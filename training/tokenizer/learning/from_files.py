"""A tokenizer from local files, with all cores and no installation of Tarn."""

from collections.abc import Callable, Sequence
from pathlib import Path

from datalake.config import Refusal
from training.tokenizer import chat
from training.tokenizer.bpe import Tokenizer
from training.tokenizer.learning.bpe_trainer import check_vocab_size, learn_merges
from training.tokenizer.learning.counting import count_files
from training.tokenizer.patterns import character_classes, check_pattern


def train_on_files(
    paths: Sequence[Path],
    vocab_size: int,
    pattern: str,
    folder: Path,
    say: Callable[[str], None] = print,
) -> Tokenizer:
    """Learn a vocabulary from files of text, each one document, and save it in ``folder``.

    ``pattern`` is a name or a regular expression of one's own; the special tokens are those of a
    chat. The vocabulary is smaller where the text supports fewer merges, which ``say`` hears.
    Raises Refusal, before a file is read, for what cannot be.
    """
    check_vocab_size(vocab_size, len(chat.SPECIAL_TOKENS))
    check_pattern(pattern)
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"out must be a folder, got the file {folder}")
    classes, _ = character_classes()
    counts = count_files(paths, pattern, classes, say=say)
    say(f"{len(counts.counts):,} distinct pre-tokens in {counts.num_bytes:,} bytes")
    merges = learn_merges(counts, vocab_size, len(chat.SPECIAL_TOKENS), say)
    tokenizer = Tokenizer(
        merges.pairs, pattern, classes, chat.SPECIAL_TOKENS, chat_template=chat.TEMPLATE
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    say(
        f"{tokenizer.vocab_size:,} tokens, {merges.bytes_per_token:.3f} bytes each in these files, "
        f"saved in {folder}"
    )
    return tokenizer
