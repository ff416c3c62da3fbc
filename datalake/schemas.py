"""Columns of every table, each with its meaning and its unit, declared once.

A column marked ``content`` counts into the table's content digest; the others say when and where
a row was obtained, and may change without anything downstream being recomputed.
"""

from dataclasses import dataclass

import pyarrow as pa

DOC_ID = pa.string()  # 32 hexadecimal digits, see ``datalake.sources.record``


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, what a value means, in which unit, and whether it may be null.

    ``before`` is the value of rows that were written before the table had the column, if not null.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    nullable: bool = False
    content: bool = True
    before: str | int | bool | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one table, its key, and how it is partitioned.

    Values of the key are unique in a partition, together with those of ``key_parts``.
    """

    name: str
    columns: tuple[Column, ...]
    key: str
    partition_by: tuple[str, ...] = ()
    key_parts: tuple[str, ...] = ()
    may_be_empty: bool = False  # finding nothing is a result, too

    @property
    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def content_columns(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.content)


_ID = Column("doc_id", DOC_ID, "identity of the document, from source, URI and position in it")
_SOURCE = Column("source", pa.string(), "raw table that it comes from: web, code, wikipedia")
_KIND = Column("kind", pa.string(), "kind of source: crawl, pdf", content=False, before="")
_SNAPSHOT = Column("snapshot", pa.string(), "refresh that found this row", content=False)
_URI = Column("uri", pa.string(), "canonical address, without the port of a local server")
_LICENCE = Column(
    "licence", pa.string(), "SPDX expression, null where none is known", nullable=True
)
_EVIDENCE = (
    Column("licence_evidence", pa.string(), "where the licence was found", nullable=True),
    Column("licence_confidence", pa.float64(), "how sure; 1 is a statement", "0..1", nullable=True),
)
_PLACE = (
    Column("archive", pa.string(), "file that holds the raw bytes", content=False),
    Column("member", pa.string(), "part of it: path, commit:path, row", content=False, before=""),
    Column("offset", pa.int64(), "first byte inside the archive", "bytes", content=False),
    Column("length", pa.int64(), "extent inside the archive", "bytes", content=False),
)
_NUM_BYTES = Column("num_bytes", pa.int64(), "UTF-8 length of the text", "bytes")
_NUM_TOKENS = Column(
    "num_tokens", pa.int64(), "runs of letters and digits, and of signs", "tokens", before=0
)


def _raw(source: str, *own: Column) -> Schema:
    """A table of one kind of material: the bytes as they came, with where, when and licence."""
    return Schema(
        f"raw/{source}",
        (
            _ID,
            _SNAPSHOT,
            Column("origin", pa.string(), "name in the recipe", content=False, before=""),
            _KIND,
            _URI,
            Column("position", pa.string(), "place inside what the address names", before=""),
            _LICENCE,
            *_EVIDENCE,
            *_PLACE,
            Column(
                "fetched_at", pa.timestamp("us", "UTC"), "when the bytes were read", content=False
            ),
            Column(
                "payload",
                pa.binary(),
                "the bytes as they came; null where they stay in the archive",
                nullable=True,
                content=False,  # the digest speaks for it, wherever the bytes are
            ),
            Column("payload_digest", pa.string(), "sha1:BASE32 of the payload, as in WARC"),
            Column("num_bytes", pa.int64(), "length of the payload", "bytes", before=0),
            Column("content_type", pa.string(), "media type as declared or by name", nullable=True),
            Column("deleted", pa.bool_(), "the source has it no longer", before=False),
            *own,
        ),
        key="doc_id",
        partition_by=("snapshot",),
        # One page may lie in several files of one crawl.
        key_parts=("origin", "archive", "member", "offset"),
    )


def _fraction(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, pa.float64(), meaning, "0..1", nullable)


def _number(name: str, meaning: str, unit: str = "", nullable: bool = False) -> Column:
    return Column(name, pa.int64(), meaning, unit, nullable)


def _says(name: str, meaning: str, nullable: bool = False) -> Column:
    return Column(name, pa.bool_(), meaning, nullable=nullable)


TABLES: dict[str, Schema] = {
    table.name: table
    for table in (
        _raw(
            "web",
            Column("http_status", pa.int32(), "status of the response", nullable=True),
            Column(
                "truncated", pa.string(), "why the payload was cut, null if whole", nullable=True
            ),
            Column("etag", pa.string(), "validator for the next request", nullable=True),
            Column("last_modified", pa.string(), "the same, as a date of HTTP", nullable=True),
            Column(
                "languages", pa.string(), "as the archive says: ISO 639-3, commas", nullable=True
            ),
        ),
        _raw(
            "code",
            Column("project", pa.string(), "distribution or repository", nullable=True),
            Column("revision", pa.string(), "its version or commit", nullable=True),
            Column("path", pa.string(), "path inside it", nullable=True),
            Column("blob_id", pa.string(), "git's name of the content", nullable=True),
            Column("generated", pa.bool_(), "written by a program", nullable=True),
            Column("vendored", pa.bool_(), "copied from another project", nullable=True),
            Column("minified", pa.bool_(), "squeezed for machines", nullable=True),
        ),
        _raw(
            "wikipedia",
            Column("title", pa.string(), "of the page", nullable=True),
            Column("page_id", pa.int64(), "of the wiki", nullable=True),
            Column("revision_id", pa.int64(), "of the wiki", nullable=True),
            Column("revised_at", pa.timestamp("us", "UTC"), "time of the revision", nullable=True),
            Column("site", pa.string(), "database name: enwiki", nullable=True),
        ),
        _raw(
            "arxiv",
            Column("paper", pa.string(), "identifier without version", nullable=True),
            Column("paper_version", pa.string(), "v1, v2, newest known", nullable=True),
            Column("title", pa.string(), "from the metadata", nullable=True),
            Column("categories", pa.string(), "separated by spaces", nullable=True),
        ),
        _raw("pdf"),
        _raw(
            "directories",
            Column("path", pa.string(), "path below the root", nullable=True),
            Column("modified_at", pa.timestamp("us", "UTC"), "of the file", nullable=True),
        ),
        _raw(
            "tables",
            Column("title", pa.string(), "mapped column", nullable=True),
            Column("language", pa.string(), "mapped column, ISO 639-1", nullable=True),
            Column("row_number", pa.int64(), "in its file, from 0", nullable=True),
            Column("metadata", pa.string(), "further mapped columns, JSON", nullable=True),
        ),
        Schema(
            "documents",
            (
                _ID,
                _SOURCE,
                _URI,
                Column("title", pa.string(), "title of the page or path of the file"),
                Column("language", pa.string(), "ISO 639-1 of prose, or programming language"),
                Column("encoding", pa.string(), "character encoding the bytes were read with"),
                _LICENCE,
                *_EVIDENCE,
                _KIND,
                _SNAPSHOT,
                *_PLACE,
                Column(
                    "page_starts",
                    pa.list_(pa.int64()),
                    "where in the text each page begins; empty where there are none",
                    "characters",
                ),
                Column("remark", pa.string(), "what could not be read of it", nullable=True),
                _NUM_BYTES,
                Column("text", pa.large_string(), "the document, NFC, without volatile addresses"),
            ),
            key="doc_id",
        ),
        Schema(
            "signals",
            (
                _ID,
                _SOURCE,
                _URI,
                Column("language", pa.string(), "as in documents"),
                _LICENCE,
                _NUM_BYTES,
                Column("num_words", pa.int64(), "words between white space", "words"),
                Column("num_lines", pa.int64(), "lines, empty ones too", "lines"),
                Column("mean_word_length", pa.float64(), "mean word length", "characters"),
                Column("hash_ratio", pa.float64(), "'#' per word"),
                Column("ellipsis_ratio", pa.float64(), "'...' and U+2026 per word"),
                _fraction("bullet_line_fraction", "lines that start with a bullet or a dash"),
                _fraction("ellipsis_line_fraction", "lines that end in an ellipsis"),
                _fraction("alphabetic_word_fraction", "words with at least one letter"),
                Column("num_stop_words", pa.int64(), "distinct stop words of Gopher present"),
                _fraction("duplicate_line_fraction", "lines that repeat an earlier one"),
                _fraction("duplicate_line_character_fraction", "characters in repeated lines"),
                _fraction("duplicate_paragraph_fraction", "paragraphs that repeat an earlier one"),
                _fraction("duplicate_paragraph_character_fraction", "characters in such"),
                *(
                    _fraction(f"top_{n}_gram_character_fraction", f"characters in the top {n}-gram")
                    for n in (2, 3, 4)
                ),
                *(
                    _fraction(
                        f"duplicate_{n}_gram_character_fraction",
                        f"characters in repeated {n}-grams",
                    )
                    for n in range(5, 11)
                ),
                Column("max_line_length", pa.int64(), "longest line", "characters"),
                Column("mean_line_length", pa.float64(), "mean length of lines", "characters"),
                _fraction("alphabetic_fraction", "characters that are letters"),
                _fraction("alphanumeric_fraction", "characters that are letters or digits"),
                # Of the whole text, after RedPajama 2 and Dolma.
                _number("num_characters", "length of the text", "characters"),
                _number("num_tokens", "pieces for BPE: a lower bound of tokens", "pieces"),
                _number("num_nonsymbol_words", "words that are not all punctuation", "words"),
                Column("mean_nonsymbol_word_length", pa.float64(), "of those", "characters"),
                Column("median_word_length", pa.float64(), "of all words", "characters"),
                _number("num_stop_word_occurrences", "stop words, with repeats", "words"),
                _fraction("stop_word_fraction", "words that are stop words"),
                _fraction("unique_word_fraction", "different words per word"),
                Column("unigram_entropy", pa.float64(), "of the words", "nats"),
                _fraction("uppercase_fraction", "characters in upper case"),
                _fraction("all_caps_word_fraction", "words all in upper case"),
                _fraction("digit_fraction", "characters that are digits"),
                _fraction("punctuation_fraction", "characters of punctuation"),
                _fraction("space_fraction", "characters of white space"),
                Column("compression_ratio", pa.float64(), "bytes after zstd per byte"),
                # FineWeb's own, of lines that are not blank.
                _fraction("punctuated_line_fraction", "lines that end a sentence"),
                _fraction("short_line_fraction", "lines of 30 characters or fewer"),
                _fraction("repeated_line_ratio", "characters in lines that repeat an earlier one"),
                Column("newline_ratio", pa.float64(), "line feeds per word"),
                _number("num_long_lines", "lines of 200 characters or more (mC4)", "lines"),
                _number("num_javascript_lines", "lines that say javascript", "lines"),
                _number("num_policy_lines", "lines about policies and cookies", "lines"),
                # What C4's line rules leave, as published and as FineWeb applies them.
                *(
                    column
                    for name, whose in (
                        ("c4", "that C4 leaves"),
                        ("fineweb", "that FineWeb's C4 leaves"),
                    )
                    for column in (
                        _number(
                            f"{name}_num_sentences", f"sentences in lines {whose}", "sentences"
                        ),
                        _says(f"{name}_lorem_ipsum", f"lorem ipsum in lines {whose}"),
                        _says(f"{name}_curly_bracket", f"a curly bracket in lines {whose}"),
                        _fraction(f"{name}_line_characters", f"characters in lines {whose}"),
                    )
                ),
                _fraction(
                    "fineweb_punctuated_line_fraction",
                    "of lines left by its C4: that end a sentence",
                ),
                _fraction("fineweb_short_line_fraction", "of them: of 30 characters or fewer"),
                _fraction("fineweb_repeated_line_ratio", "characters in such that repeat one"),
                Column("fineweb_newline_ratio", pa.float64(), "line feeds per word in them"),
                _fraction("refinedweb_cut_fraction", "words that RefinedWeb's line rules cut"),
                # Of code; null where a document or its language has no such thing.
                _fraction("comment_fraction", "characters in comments", nullable=True),
                _fraction("encoded_fraction", "characters of encoded data"),
                _number("longest_encoded", "longest run of encoded data", "characters"),
                _fraction("hexadecimal_fraction", "characters in hexadecimal words"),
                _fraction("visible_text_fraction", "of HTML: what a reader sees", nullable=True),
                _number(
                    "visible_text_characters", "of HTML: what a reader sees", "characters", True
                ),
                _says("starts_as_xml", "an XML declaration at its head"),
                _says("generated", "written by a program, by its first lines or its name"),
                _says("vendored", "of code: copied from another project, by its path", True),
                _says("minified", "of code: squeezed for machines", True),
                Column(
                    "language_score",
                    pa.float64(),
                    "how sure a detector is of language; null of code",
                    "0..1",
                    nullable=True,
                ),
                Column("licence_class", pa.string(), "permissive, copyleft, unknown, ..."),
                Column("score_names", pa.list_(pa.string()), "scorers of the recipe, in order"),
                Column("scores", pa.list_(pa.float64()), "what each of them gives"),
                Column("snapshot", pa.string(), "as in documents", content=False, before=""),
                Column("measured", pa.string(), "digest of what was measured", content=False),
                Column("text_digest", pa.string(), "digest of the text without case and spacing"),
                Column("url_key", pa.string(), "address without scheme, www. and trackers"),
                Column(
                    "band_keys",
                    pa.list_(pa.int64()),
                    "MinHash key of each band; empty where there are too few words",
                ),
                Column(
                    "signature",
                    pa.binary(),
                    "MinHash minima, uint32 little-endian; null where there are too few words",
                    nullable=True,
                ),
            ),
            key="doc_id",
        ),
        Schema(
            "kept",
            (
                _ID,
                _SOURCE,
                _LICENCE,
                _NUM_BYTES,
                _NUM_TOKENS,
                Column("keep", pa.bool_(), "whether every rule let it pass"),
                Column("reason", pa.string(), "first rule that dropped it", nullable=True),
            ),
            key="doc_id",
        ),
        Schema(
            "duplicates",
            (
                _ID,
                _SOURCE,
                _NUM_BYTES,
                _NUM_TOKENS,
                Column("cluster", pa.string(), "smallest doc_id of the cluster"),
                Column(
                    "kind", pa.string(), "unique where alone; url, exact or near, to the survivor"
                ),
                Column(
                    "survivor",
                    pa.string(),
                    "doc_id that stays for the cluster; null where only a filter knows it",
                    nullable=True,
                ),
            ),
            key="doc_id",
        ),
        Schema(
            "contamination",
            (
                _ID,
                _SOURCE,
                Column("benchmark", pa.string(), "evaluation table that it was found in"),
                Column("item_id", pa.string(), "item of it"),
                Column(
                    "item_fraction", pa.float64(), "of the item, found in this document", "0..1"
                ),
                Column("total_fraction", pa.float64(), "the same, in all documents", "0..1"),
                Column("start", pa.int64(), "first byte in the text of documents", "bytes"),
                Column("end", pa.int64(), "one past the last", "bytes"),
                Column("remove", pa.bool_(), "whether the rule of the recipe asks to act on it"),
                _number("cut_start", "first byte cut for it; null where none is", nullable=True),
                _number("cut_end", "one past the last", nullable=True),
            ),
            key="doc_id",
            key_parts=("benchmark", "item_id", "start"),
            may_be_empty=True,
        ),
        Schema(
            "cuts",
            (
                _ID,
                _SOURCE,
                Column("start", pa.int64(), "first byte in the text of documents", "bytes"),
                Column("end", pa.int64(), "one past the last", "bytes"),
                Column("reason", pa.string(), "rule, kind of personal data, repeat"),
                Column("replacement", pa.string(), "what stands there instead"),
            ),
            key="doc_id",
            key_parts=("start", "end", "reason"),
            may_be_empty=True,
        ),
        Schema(
            "corpus",
            (
                _ID,
                _SOURCE,
                _URI,
                Column("title", pa.string(), "as in documents"),
                Column("language", pa.string(), "as in documents"),
                _LICENCE,
                *_PLACE,
                _NUM_BYTES,
                _NUM_TOKENS,
                Column("cluster", pa.string(), "near-duplicate cluster, doc_id where alone"),
                Column("weight", pa.float64(), "times the document is seen in one epoch"),
                Column("text", pa.large_string(), "as in documents, after all cuts"),
            ),
            key="doc_id",
        ),
        Schema(
            "encoded",
            (
                _ID,
                _SOURCE,
                Column("cluster", pa.string(), "as in corpus"),
                Column("weight", pa.float64(), "as in corpus"),
                _NUM_BYTES,
                Column("num_tokens", pa.int64(), "ids of the text", "tokens"),
                Column(
                    "tokens",
                    pa.binary(),
                    "these ids, without <|endoftext|>, little-endian: uint16 up to a vocabulary of "
                    "65,536, else uint32",
                ),
                Column("measured", pa.string(), "digest of what was encoded", content=False),
            ),
            key="doc_id",
        ),
        Schema(
            "tokens",
            (
                Column("row_id", pa.int64(), "order of the row in its split, with gaps"),
                Column("split", pa.string(), "train or validation"),
                Column(
                    "tokens",
                    pa.binary(),
                    "context_length + 1 ids, little-endian: uint16 up to a vocabulary of 65,536, "
                    "else uint32",
                ),
                Column("vocab_size", pa.int32(), "of the tokenizer", "tokens"),
                Column("num_tokens", pa.int32(), "ids that the row is filled with", "tokens"),
                Column("doc_ids", pa.list_(pa.string()), "documents in the row, in order"),
                Column("doc_starts", pa.list_(pa.int32()), "first token of each in the row"),
                Column(
                    "doc_offsets",
                    pa.list_(pa.int64()),
                    "of each, place in its document of the token after that first one",
                    "tokens",
                ),
            ),
            key="row_id",
            partition_by=("split",),
        ),
        Schema(
            "scaling_runs",
            (
                Column("run", pa.string(), "name of the small run"),
                Column("flops", pa.float64(), "compute spent", "FLOP"),
                Column("num_params", pa.int64(), "parameters that multiply, head included"),
                Column("num_tokens", pa.int64(), "training tokens", "tokens"),
                Column("d_model", pa.int64(), "width"),
                Column("num_layers", pa.int64(), "depth"),
                Column("batch_tokens", pa.int64(), "tokens per step", "tokens"),
                Column("loss", pa.float64(), "validation loss at the end", "bits per byte"),
                Column("seconds", pa.float64(), "wall time", "s", content=False),
            ),
            key="run",
        ),
        Schema(
            "mixture_runs",
            (
                Column("run", pa.string(), "name of the small run: natural, mixture-01, ..."),
                Column(
                    "sources",
                    pa.list_(pa.string()),
                    "kinds of source: first those whose shares vary, then the others",
                ),
                Column("shares", pa.list_(pa.float64()), "of each, in the bytes trained on"),
                Column("natural", pa.list_(pa.float64()), "of each, in the bytes of an epoch"),
                Column(
                    "losses",
                    pa.list_(pa.float64()),
                    "validation loss on each source whose share varies",
                    "bits per byte",
                ),
                Column("loss", pa.float64(), "validation loss on all sources", "bits per byte"),
                Column("flops", pa.float64(), "compute spent", "FLOP"),
                Column("num_tokens", pa.int64(), "training tokens", "tokens"),
                Column("seconds", pa.float64(), "wall time", "s", content=False),
            ),
            key="run",
        ),
        Schema(
            "instructions",
            (
                Column(
                    "item_id", pa.string(), "32 hexadecimal digits of family, content, template"
                ),
                Column("family", pa.string(), "family of tasks, as in evaluation.tasks.catalogue"),
                Column("content_key", pa.string(), "family and operands: what is held out"),
                Column("template", pa.int32(), "number of the family's template"),
                Column(
                    "split",
                    pa.string(),
                    "sft, preference, rl, validation, test_values, test_templates",
                ),
                Column("prompt", pa.string(), "the user's turn"),
                Column("answer", pa.string(), "demonstration of a right answer"),
                Column("grader", pa.string(), "name, as in evaluation.graders"),
                Column("grader_arguments", pa.string(), "what it compares with, JSON"),
                Column(
                    "style",
                    pa.string(),
                    "wanted style: asked for, or preferred where none is; null where it has none",
                    nullable=True,
                ),
            ),
            key="item_id",
            partition_by=("split",),
        ),
        Schema(
            "preferences",
            (
                Column("item_id", pa.string(), "as in instructions; one pair a prompt"),
                Column("family", pa.string(), "as in instructions"),
                Column("content_key", pa.string(), "as in instructions"),
                Column("split", pa.string(), "train, held_out"),
                Column("prompt", pa.string(), "as in instructions"),
                *(
                    column
                    for side in ("chosen", "rejected")
                    for column in (
                        Column(side, pa.string(), "answer of the sampler"),
                        Column(f"{side}_score", pa.float64(), "strict score of the grader", "0..1"),
                        Column(f"{side}_style", pa.float64(), "style score, 0 if none", "0..1"),
                        Column(f"{side}_reason", pa.string(), "what the grader said"),
                    )
                ),
                Column("margin", pa.float64(), "value of chosen minus value of rejected"),
                Column("num_samples", pa.int32(), "answers the pair was taken from"),
                Column("temperature", pa.float64(), "of the sampler"),
                Column("sampler", pa.string(), "digest of the weights that sampled"),
                Column("rule", pa.string(), "what made one better, JSON"),
                Column(
                    "sampling_flops",
                    pa.float64(),
                    "what the pair cost, prompts that gave none included",
                    "FLOPs",
                ),
            ),
            key="item_id",
            partition_by=("split",),
        ),
        Schema(
            "rollouts",
            (
                Column("rollout_id", pa.string(), "step, item and number of the answer"),
                Column("step", pa.int32(), "training step that learned from it"),
                Column("group", pa.string(), "answers to one prompt at one step"),
                Column("item_id", pa.string(), "as in instructions"),
                Column("family", pa.string(), "as in instructions"),
                Column("content_key", pa.string(), "as in instructions"),
                Column("prompt_ids", pa.list_(pa.int32()), "tokens that were read"),
                Column("completion_ids", pa.list_(pa.int32()), "tokens that were drawn"),
                Column(
                    "log_probs", pa.list_(pa.float32()), "of the sampler, a drawn token", "nats"
                ),
                Column("temperature", pa.float64(), "of the sampler"),
                Column("finish", pa.string(), "stop, length"),
                Column("policy", pa.string(), "digest of the weights that answered"),
                Column("text", pa.string(), "the answer, without the end of its turn"),
                Column(
                    "score",
                    pa.float64(),
                    "strict score of the grader; null where it failed",
                    "0..1",
                    nullable=True,
                ),
                Column("reason", pa.string(), "what the grader said"),
                Column("outcome", pa.string(), "graded, unfinished, error, timeout"),
                Column(
                    "reward", pa.float64(), "score and style; null where not judged", nullable=True
                ),
            ),
            key="rollout_id",
        ),
    )
}
