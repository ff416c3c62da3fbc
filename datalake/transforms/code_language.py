"""Which programming language a file is in: by its name, and by its content where names are shared.

Names come from a table of ours and, for what it lacks, from Pygments' list of lexers, so that
every language has Pygments' first alias in lower case, or the name that our table gives it.
"""

import re
from collections.abc import Callable
from functools import cache
from posixpath import basename

UNKNOWN = "unknown"

_SAMPLE = 20_000  # characters: what tells a language stands near the top of its file
# Extensions that several lexers claim, or that Pygments does not know, or names it otherwise.
_BY_EXTENSION = {
    "asm": "nasm", "awk": "awk", "bash": "shell", "bat": "batch", "bib": "bibtex", "c": "c",
    "cc": "cpp", "cfg": "ini", "cjs": "javascript", "cmake": "cmake", "cpp": "cpp",
    "cs": "csharp", "css": "css", "csv": "csv", "cts": "typescript", "cu": "cuda",
    "cuh": "cuda", "cxx": "cpp", "diff": "diff", "ex": "elixir", "exs": "elixir",
    "g4": "antlr", "go": "go",
    "groovy": "groovy", "hh": "cpp", "hpp": "cpp", "hs": "haskell", "htm": "html",
    "html": "html", "hxx": "cpp", "ini": "ini", "ipynb": "jupyter", "java": "java",
    "jl": "julia", "js": "javascript", "json": "json", "jsonl": "json", "jsx": "javascript",
    "kt": "kotlin", "kts": "kotlin", "ksh": "shell", "less": "less", "lisp": "common-lisp",
    "lua": "lua", "markdown": "markdown", "md": "markdown", "mjs": "javascript", "ml": "ocaml",
    "mli": "ocaml", "mm": "objective-c++", "mts": "typescript", "patch": "diff", "php": "php",
    "pm": "perl", "proto": "protobuf", "ps1": "powershell", "pxd": "cython", "pxi": "cython",
    "py": "python", "pyi": "python", "pyw": "python", "pyx": "cython", "r": "r", "rb": "ruby",
    "rs": "rust", "rst": "restructuredtext", "s": "gas", "sass": "sass", "sbt": "scala",
    "scala": "scala", "scss": "scss", "sh": "shell", "sql": "sql", "sty": "tex",
    "svelte": "svelte", "svg": "xml", "swift": "swift", "tcl": "tcl", "tex": "tex",
    "toml": "toml", "tsv": "csv", "tsx": "typescript", "txt": "text", "vb": "vb.net",
    "vue": "vue", "xml": "xml", "xsd": "xml", "xsl": "xslt", "y": "yacc", "yaml": "yaml",
    "yml": "yaml", "yy": "yacc",
    "zig": "zig", "zsh": "shell",
}  # fmt: skip
_BY_NAME = {
    "authors": "text", "changelog": "text", "cmakelists.txt": "cmake", "containerfile": "docker",
    "copying": "text", "dockerfile": "docker", "gemfile": "ruby", "gnumakefile": "makefile",
    "go.mod": "text", "go.sum": "text",
    "jenkinsfile": "groovy", "justfile": "makefile", "licence": "text", "license": "text",
    "makefile": "makefile", "meson.build": "meson", "news": "text", "notice": "text",
    "pipfile": "toml", "pkgbuild": "shell", "rakefile": "ruby", "readme": "text",
    "sconscript": "python", "sconstruct": "python", "todo": "text", "vagrantfile": "ruby",
    ".bash_profile": "shell", ".bashrc": "shell", ".profile": "shell", ".zshrc": "shell",
}  # fmt: skip
_BY_PROGRAM = {
    "ash": "shell", "awk": "awk", "bash": "shell", "bun": "typescript", "dash": "shell",
    "deno": "typescript", "elixir": "elixir", "escript": "erlang", "fish": "fish",
    "gawk": "awk", "groovy": "groovy", "guile": "scheme", "julia": "julia", "ksh": "shell",
    "lua": "lua", "luajit": "lua", "make": "makefile", "node": "javascript",
    "nodejs": "javascript", "osascript": "applescript", "perl": "perl", "php": "php",
    "pwsh": "powershell", "pypy": "python", "python": "python", "racket": "racket",
    "rscript": "r", "ruby": "ruby", "runghc": "haskell", "runhaskell": "haskell", "sh": "shell",
    "swift": "swift", "tclsh": "tcl", "ts-node": "typescript", "wish": "tcl", "zsh": "shell",
}  # fmt: skip
_RENAMED = {
    "bash": "shell", "cr": "crystal", "delphi": "pascal", "fortranfixed": "fortran",
    "nimrod": "nim", "nixos": "nix", "rst": "restructuredtext", "splus": "r",
    "wast": "webassembly",
}  # fmt: skip
_SHEBANG = re.compile(r"#![ \t]*(\S+)(?:[ \t]+([^\r\n]*))?")

# Of every shared extension: what tells each language that may be meant, then the usual one.
_OBJECTIVE_C = r"^[ \t]*(?:@(?:interface|implementation|protocol|class|end|property)\b|#import\b)"
_Choices = tuple[tuple[tuple[str, re.Pattern[str]], ...], str]
_SHARED: dict[str, _Choices] = {
    extension: (tuple((name, re.compile(p, re.MULTILINE)) for name, p in tells), usual)
    for extension, tells, usual in (
        (
            "h",
            (
                ("objective-c", _OBJECTIVE_C),
                (
                    "cpp",
                    r"^[ \t]*(?:class[ \t]+\w|namespace\b|template[ \t]*<|using[ \t]+\w"
                    r"|(?:public|private|protected)[ \t]*:|constexpr\b)|\bstd::"
                    r"|^[ \t]*#[ \t]*include[ \t]*<(?:c?[a-z_]+)>[ \t]*$",
                ),
            ),
            "c",
        ),
        (
            "m",
            (
                ("objective-c", _OBJECTIVE_C),
                ("mercury", r"^[ \t]*:-[ \t]*module\b"),
                ("mathematica", r"^[ \t]*(?:\(\*|BeginPackage\[|Begin\[)|:="),
            ),
            "matlab",
        ),
        (
            "pl",
            (
                ("perl", r"^[ \t]*(?:use[ \t]+[\w:]+|my[ \t]+[$@%(]|sub[ \t]+\w|package[ \t]+\w)"),
                ("prolog", r"^[ \t]*:-|^[a-z]\w*(?:\([^)\n]*\))?[ \t]*(?::-|\.[ \t]*$)"),
            ),
            "perl",
        ),
        ("t", (("turing", r"^[ \t]*(?:var[ \t]+\w+[ \t]*:|put[ \t]+\")"),), "perl"),
        (
            "v",
            (
                ("coq", r"^[ \t]*(?:Require\b|Theorem\b|Lemma\b|Proof\b|Qed\.|Inductive\b)"),
                ("v", r"^(?:pub[ \t]+)?fn[ \t]+\w|^import[ \t]+[a-z]"),
            ),
            "verilog",
        ),
        ("ts", (("xml", r"\A\s*<(?:\?xml|!DOCTYPE[ \t]+TS|TS\b)"),), "typescript"),
        (
            "fs",
            (
                ("forth", r"^(?::[ \t]+\S|\\[ \t])"),
                ("glsl", r"^[ \t]*(?:#version\b|precision\b|uniform\b|void[ \t]+main\b)"),
            ),
            "fsharp",
        ),
        ("cl", (("opencl", r"\b(?:__kernel|__global|kernel[ \t]+void)\b"),), "common-lisp"),
        (
            "cls",
            (
                ("tex", r"\\(?:NeedsTeXFormat|ProvidesClass|LoadClass)\b"),
                ("vbscript", r"\AVERSION[ \t]+1\.0[ \t]+CLASS"),
            ),
            "apex",
        ),
        ("inc", (("php", r"<\?php\b"), ("cpp", r"\bstd::|^[ \t]*#[ \t]*include\b")), UNKNOWN),
        ("d", (("makefile", r"^\S+\.(?:o|lo|d)[ \t]*:"),), "d"),
        (
            "pro",
            (
                ("qmake", r"^[ \t]*(?:QT|TEMPLATE|SOURCES|TARGET|CONFIG)[ \t]*[+\-]?="),
                ("prolog", r"^[ \t]*:-|^[a-z]\w*(?:\([^)\n]*\))?[ \t]*:-"),
            ),
            "idl",
        ),
        ("sc", (("supercollider", r"\bSynthDef\b|^[ \t]*(?:\+[ \t]*\w+[ \t]*\{|~\w+)"),), "scala"),
        ("l", (("common-lisp", r"^[ \t]*\((?:defun|defmacro|in-package)\b"),), "lex"),
    )
}


def language_of(path: str, content: Callable[[], str] | str | None = None) -> str:
    """Programming language of the file ``path`` in lower case, or ``unknown``.

    ``content`` is its text, or says how to get it: it is looked at only where the name leaves
    the language open. Without it the commonest language of that name is returned.
    """
    name = basename(path).lower()
    extension = name.rpartition(".")[2] if "." in name.lstrip(".") else ""
    found = _BY_NAME.get(name) or _BY_EXTENSION.get(extension)
    if found is not None:
        return found
    shared = _SHARED.get(extension)
    found = None if shared else _by_pygments(extension, name if not extension else "")
    if found is not None:
        return found
    sample = (content() if callable(content) else content or "")[:_SAMPLE]
    if (program := _program(sample)) is not None:
        return program
    if shared is not None:
        tells, usual = shared
        return next((language for language, tell in tells if tell.search(sample)), usual)
    if sample.startswith("<?xml"):
        return "xml"
    if sample.startswith("<?php"):
        return "php"
    # Names of which only the beginning counts: Dockerfile.dev, README.first.
    return _BY_NAME.get(name.partition(".")[0], UNKNOWN)


def _program(sample: str) -> str | None:
    """Language of the program that the first line asks to be run by."""
    if (found := _SHEBANG.match(sample)) is None:
        return None
    program, words = basename(found[1]), (found[2] or "").split()
    if program == "env":
        words = [w for w in words if not w.startswith("-") and "=" not in w]
        program = basename(words[0]) if words else ""
    program = program.lower()
    return _BY_PROGRAM.get(program) or _BY_PROGRAM.get(re.sub(r"[\d.]+\Z", "", program))


@cache
def _by_pygments(extension: str, name: str) -> str | None:
    extensions, names = _pygments()
    return extensions.get(extension) if extension else names.get(name)


@cache
def _pygments() -> tuple[dict[str, str], dict[str, str]]:
    """Language by extension and by whole name. A lexer's first pattern is the one it is for."""
    from pygments.lexers import get_all_lexers

    ranked: dict[str, tuple[int, int, str]] = {}
    for _, aliases, patterns, _ in get_all_lexers(plugins=False):
        if not aliases:
            continue
        language = _RENAMED.get(aliases[0].lower(), aliases[0].lower())
        for place, pattern in enumerate(patterns):
            key = pattern.lower()
            if re.search(r"[*?\[]", key.removeprefix("*.")):
                continue
            rank = (place, len(language), language)  # then the plainest name: html, not html+php
            ranked[key] = min(ranked.get(key, rank), rank)
    extensions = {k[2:]: v[2] for k, v in ranked.items() if k.startswith("*.")}
    names = {k: v[2] for k, v in ranked.items() if not k.startswith("*.")}
    return extensions, names
