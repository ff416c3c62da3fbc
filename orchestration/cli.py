"""The ``tarn`` command: run the graph, open the UIs, talk to a model, check the machine."""

import importlib
import inspect
import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datalake.config import Refusal
from orchestration import doctor as doctor_checks
from orchestration import resources

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
tokenizer_app = typer.Typer(
    no_args_is_help=True, help="Look at a tokenizer; encode and decode by it."
)
app.add_typer(tokenizer_app, name="tokenizer")
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)  # where stdout is for a script to read

RecipeOption = Annotated[
    str | None, typer.Option("--recipe", help="Name of a recipe, or path of a YAML file.")
]

TokenizerOption = Annotated[Path, typer.Option("--tokenizer", help="Folder of the tokenizer.")]
OutOption = Annotated[Path, typer.Option("--out", help="File to write.")]


@app.callback()
def tarn() -> None:
    """From raw web pages and source code to an aligned, evaluated language model."""


@app.command()
def run(
    recipe: RecipeOption = None,
    select: Annotated[
        str | None, typer.Option(help="Dagster selection of assets, such as key:kept+")
    ] = None,
    force: Annotated[bool, typer.Option(help="Compute again what is fresh, too.")] = False,
) -> None:
    """Materialize the graph: what is stale is computed, what did not change is not."""
    from orchestration import materialize

    resources.adopt_environment(recipe)
    _listen()
    started = time.monotonic()
    try:
        outcome = materialize.materialize(select=select, force=force)
    except Refusal as refusal:
        _refuse(refusal)
    _report(outcome, time.monotonic() - started)
    if outcome.failures:
        raise typer.Exit(1)


@app.command()
def ui(
    recipe: RecipeOption = None,
    dagster_port: Annotated[int, typer.Option(help="First port to try.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="First port to try.")] = 5000,
) -> None:
    """Start Dagster (webserver and daemon) and MLflow; Ctrl-C stops them all."""
    from orchestration import materialize, services

    resources.adopt_environment(recipe)
    try:
        resources.recipe()
        materialize.end_orphans_if_idle()
        services.serve(dagster_port, mlflow_port, console.print)
    except Refusal as refusal:
        _refuse(refusal)


@app.command()
def chat(
    model: Annotated[
        str,
        typer.Option(
            help="base, sft, dpo or chat, as last made; or the folder of a checkpoint, a run, or a "
            "model that others published."
        ),
    ] = "chat",
    once: Annotated[
        str | None, typer.Option(help="Print the bare answer to this message, and leave.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token: what a small model does best.")
    ] = 0.0,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            help="The longest answer, in tokens.", show_default="a quarter of the context"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is drawn where temperature is above 0.")] = 0,
    history: Annotated[
        bool, typer.Option(help="Let the model read the earlier turns of the conversation.")
    ] = True,
) -> None:
    """Talk to a model; questions may also be piped in, a line each."""
    from orchestration.chat import Session, open_conversation

    try:
        conversation, what = open_conversation(model, temperature, max_new_tokens, seed, history)
        if once is not None:
            Session(conversation, interactive=False).answer(once)
        elif not Session(conversation, sys.stdin.isatty() and sys.stdout.isatty()).talk(what):
            raise typer.Exit(2)
    except Refusal as refusal:
        _refuse(refusal, errors)


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            help="base, sft, dpo or chat, as last made; or the folder of a checkpoint or run."
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="New folder: config, weights and tokenizer.")],
) -> None:
    """Write a model as a folder that transformers and others load."""
    from orchestration.export import export as write

    try:
        console.print(escape(write(model, folder)), soft_wrap=True)
    except Refusal as refusal:
        _refuse(refusal)


@app.command()
def sources(recipe: RecipeOption = None) -> None:
    """List every source: its snapshots, records, bytes, licences and last refresh."""
    from orchestration import origins

    resources.adopt_environment(recipe)
    try:
        for line in origins.source_lines():
            quiet = "[dim]" if line.startswith(" ") else ""
            console.print(quiet + escape(line), soft_wrap=True)
    except Refusal as refusal:
        _refuse(refusal)


@app.command()
def trace(
    document: Annotated[str, typer.Argument(help="Id of a document, or its address.")],
    raw: Annotated[
        bool, typer.Option(help="Write the bytes that it was made of to stdout, and nothing else.")
    ] = False,
) -> None:
    """Show where a document came from, and fetch the very bytes again."""
    from datalake import provenance
    from orchestration import origins

    say = errors if raw else console
    lake = resources.workspace().lake
    try:
        found = provenance.trace(lake, document)
        table, newest = found.raw[-1]
        if not raw:
            for shown in origins.trace_tables(found):
                console.print(shown)
        if newest["deleted"]:
            raise Refusal(f"{table} must hold {document} still, got a mark that it is gone")
        payload, problem = provenance.bytes_of(lake, table, newest)
    except Refusal as refusal:
        _refuse(refusal, say)
    if problem is not None:
        say.print(f"[yellow]changed[/] {escape(problem)}; {table} kept the bytes", soft_wrap=True)
    if raw:
        sys.stdout.buffer.write(payload)
    else:
        where = "read again" if problem is None else "from the table"
        console.print(f"{where}: {len(payload):,} bytes, {newest['payload_digest']}")


@tokenizer_app.command("show")
def tokenizer_show(
    folder: Annotated[
        Path, typer.Argument(help="Ours, or one of Hugging Face's with a tokenizer.json.")
    ],
) -> None:
    """Say what a tokenizer has: its size, pattern, special tokens, longest tokens, an example."""
    from training.tokenizer import about
    from training.tokenizer.bpe import Tokenizer

    try:
        tokenizer = Tokenizer.load(folder)
    except Refusal as refusal:
        _refuse(refusal)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in about.lines(tokenizer):
        table.add_row(name, escape(value))
    console.print(table)


@tokenizer_app.command("train")
def tokenizer_train(
    files: Annotated[list[Path], typer.Argument(help="Text, of any size; a document each.")],
    out: Annotated[Path, typer.Option(help="Folder for the tokenizer.")],
    vocab_size: Annotated[int, typer.Option(help="Bytes, merges and special tokens.")] = 32_768,
    pattern: Annotated[
        str, typer.Option(help="gpt2, cl100k, cl100k_digits, o200k, or a regular expression.")
    ] = "cl100k_digits",
) -> None:
    """Learn a vocabulary from local files with all cores."""
    from training.tokenizer.learning.from_files import train_on_files

    try:
        train_on_files(files, vocab_size, pattern, out, lambda line: console.print(escape(line)))
    except Refusal as refusal:
        _refuse(refusal)


@tokenizer_app.command("encode")
def tokenizer_encode(
    file: Annotated[Path, typer.Argument(help="Text, of any size.")],
    tokenizer: TokenizerOption,
    out: OutOption,
    threads: Annotated[
        int | None, typer.Option(min=1, help="To share the work.", show_default="all cores")
    ] = None,
) -> None:
    """Write a text's token ids as bare little-endian numbers, of 2 bytes each or of 4."""
    from training.tokenizer import id_files
    from training.tokenizer.bpe import Tokenizer

    try:
        loaded = Tokenizer.load(tokenizer)
        count = id_files.encode_file(loaded, file, out, threads)
    except Refusal as refusal:
        _refuse(refusal)
    kind = loaded.dtype.__name__
    size = file.stat().st_size
    per_token = f", {size / count:.2f} bytes a token" if count else ""
    console.print(f"{count:,} ids ({kind}) of {size:,} bytes{per_token}: {out}", soft_wrap=True)


@tokenizer_app.command("decode")
def tokenizer_decode(
    file: Annotated[Path, typer.Argument(help="Ids, as `tarn tokenizer encode` writes them.")],
    tokenizer: TokenizerOption,
    out: OutOption,
) -> None:
    """Write the bytes that token ids stand for."""
    from training.tokenizer import id_files
    from training.tokenizer.bpe import Tokenizer

    try:
        count = id_files.decode_file(Tokenizer.load(tokenizer), file, out)
    except Refusal as refusal:
        _refuse(refusal)
    console.print(f"{count:,} bytes: {out}", soft_wrap=True)


@app.command()
def rows(
    model: Annotated[
        str, typer.Argument(help="base, as last made; or the folder of a checkpoint or run.")
    ] = "base",
    step: Annotated[
        int | None, typer.Option(help="Show the rows and documents that trained this step.")
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="Show the steps that this document trained: id or address.")
    ] = None,
) -> None:
    """Show which rows and documents trained a step of a base model, or which steps a document."""
    from orchestration import origins
    from orchestration.chat import find_checkpoint
    from training.token_tables.readings import Readings

    try:
        if (step is None) == (document is None):
            raise Refusal("tarn rows must have one of --step and --document")
        readings = Readings.of(resources.workspace().lake, find_checkpoint(model))
        if step is not None:
            console.print(origins.step_table(readings, step))
        elif document is not None:
            for line in origins.document_lines(readings, document):
                console.print(escape(line), soft_wrap=True)
    except Refusal as refusal:
        _refuse(refusal)


@app.command()
def doctor() -> None:
    """Say what this machine has, what Tarn needs, and what is missing."""
    table = Table("", "what", "found", "needed", box=None)
    findings = doctor_checks.examine()
    for finding in findings:
        mark = "[green]ok[/]" if finding.good else "[red]no[/]"
        table.add_row(mark, finding.what, finding.found, finding.needed)
    console.print(table)
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="tests/benchmarks/bench_NAME.py.")],
) -> None:
    """Run the benchmark NAME with the words that follow; its last line is one JSON object."""
    folder = Path(__file__).parents[1] / "tests" / "benchmarks"
    names = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    if name not in names:
        _refuse(Refusal(f"benchmark must be one of {', '.join(names)}, got {name}"))
    sys.path.insert(0, str(folder.parents[1]))
    main = importlib.import_module(f"tests.benchmarks.bench_{name}").main
    try:
        if inspect.signature(main).parameters:
            main(context.args)
        elif context.args:
            words = " ".join(context.args)
            raise Refusal(f"benchmark {name} must stand without further words, got {words}")
        else:
            main()
    except Refusal as refusal:
        _refuse(refusal)


def _listen() -> None:
    """Show the progress of the assets: the lines that they ``say``."""
    logger = logging.getLogger("tarn")
    logger.handlers[:] = [_Terminal()]
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Terminal(logging.Handler):
    """Time, asset and line, one line each, never folded."""

    def emit(self, record: logging.LogRecord) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        asset = getattr(record, "asset", "")
        console.print(
            f"[dim]{clock}[/] [cyan]{asset:<16}[/] {escape(record.getMessage())}", soft_wrap=True
        )


def _report(outcome: "materialize.Outcome", seconds: float) -> None:  # type: ignore[name-defined]  # noqa: F821
    table = Table("asset", "state", "rows", "s", "what came out", box=None, pad_edge=False)
    for line in outcome.lines:
        took = "" if line.seconds is None else f"{line.seconds:.1f}"
        rows = "" if line.rows is None else f"{line.rows:,}"
        table.add_row(line.key, line.state, rows, took, line.finding)
    console.print()
    console.print(table)
    for failure in outcome.failures:
        console.print(f"[red]failed[/] {failure}", soft_wrap=True)
    console.print()
    done = f"{outcome.computed} computed, {outcome.unchanged} unchanged"
    if not outcome.computed and not outcome.failures:
        done = "everything is fresh"
    console.print(f"{done} in {seconds:.0f} s")
    for name, path in outcome.pages.items():
        console.print(f"{name:<12}{path}", soft_wrap=True)
    console.print(f"{'logs':<12}{resources.home() / 'logs'}", soft_wrap=True)
    console.print("look at it  [bold]make ui[/]  (Dagster and MLflow in the browser)")
    if any(line.key == "chat_model" and line.state != "missing" for line in outcome.lines):
        console.print("talk to it  [bold]make chat[/]")


def _refuse(refusal: Refusal, on: Console = console) -> None:
    on.print(f"[red]refused[/] {escape(str(refusal))}", soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
