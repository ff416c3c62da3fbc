"""Languages of source files, by name and by content."""

import pytest
from pygments.lexers import get_all_lexers

from datalake.transforms import code_language
from datalake.transforms.code_language import language_of


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"), ("B.PYI", "python"), ("x.cuh", "cuda"), ("k.pyx", "cython"),
        ("a.test.js", "javascript"), ("Makefile", "makefile"), ("x/Dockerfile", "docker"),
        ("Dockerfile.dev", "docker"), ("CMakeLists.txt", "cmake"), ("a.hs", "haskell"),
        ("a.f90", "fortran"), ("a.rkt", "racket"), ("a.tf", "terraform"), ("m.ml", "ocaml"),
        ("a.nix", "nix"), ("a.html", "html"), ("README", "text"), ("LICENSE", "text"),
        ("a.xyz", "unknown"), ("", "unknown"), (".gitignore", "unknown"), ("a/", "unknown"),
    ],
)  # fmt: skip
def test_most_files_are_told_by_their_names(path: str, language: str) -> None:
    assert language_of(path) == language


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.h", "#include <stdio.h>\nint f(void);\n", "c"),
        ("a.h", "#include <vector>\n", "cpp"),
        ("a.h", "namespace x {\nclass A;\n}\n", "cpp"),
        ("a.h", "@interface A : NSObject\n@end\n", "objective-c"),
        ("a.h", "#import <UIKit/UIKit.h>\n", "objective-c"),
        ("a.m", "function y = f(x)\n% square\ny = x.^2;\n", "matlab"),
        ("a.m", "#import \"A.h\"\n@implementation A\n@end\n", "objective-c"),
        ("a.m", "(* a notebook *)\nBeginPackage[\"A`\"]\n", "mathematica"),
        ("a.m", ":- module hello.\n", "mercury"),
        ("a.pl", "use strict;\nmy $x = 1;\n", "perl"),
        ("a.pl", "likes(mary, wine).\nhappy(X) :- likes(X, wine).\n", "prolog"),
        ("a.pl", "#!/usr/bin/perl -w\nprint 1;\n", "perl"),
        ("a.t", "use Test::More;\n", "perl"),
        ("a.v", "module top(input a);\nendmodule\n", "verilog"),
        ("a.v", "Require Import List.\nLemma a : True.\n", "coq"),
        ("a.ts", "const a: number = 1\n", "typescript"),
        ("a.ts", "<?xml version=\"1.0\"?>\n<!DOCTYPE TS>\n<TS></TS>\n", "xml"),
        ("a.fs", "let x = 1\n", "fsharp"),
        ("a.fs", ": square dup * ;\n", "forth"),
        ("a.cl", "__kernel void f() {}\n", "opencl"),
        ("a.cl", "(defun f (x) x)\n", "common-lisp"),
        ("a.cls", "\\NeedsTeXFormat{LaTeX2e}\n", "tex"),
        ("a.d", "import std.stdio;\n", "d"),
        ("a.d", "main.o: main.c main.h\n", "makefile"),
        ("a.inc", "<?php echo 1;", "php"),
        ("a.inc", "nothing known", "unknown"),
        ("run", "#!/bin/sh\necho\n", "shell"),
        ("run", "#!/usr/bin/env -S FOO=1 python3.11 -u\n", "python"),
        ("run", "#!/usr/bin/env node\n", "javascript"),
        ("run", "#! /usr/local/bin/Rscript --vanilla\n", "r"),
        ("run", "#!/usr/bin/env\n", "unknown"),
        ("run", "#!/usr/bin/strange\n", "unknown"),
        ("run", "<?php\n", "php"),
        ("run", "plain words", "unknown"),
    ],
)  # fmt: skip
def test_content_decides_where_names_are_shared(path: str, text: str, language: str) -> None:
    assert language_of(path, text) == language


def test_content_is_not_asked_for_where_the_name_says_it() -> None:
    def asked() -> str:
        raise AssertionError

    assert language_of("a.py", asked) == "python"
    assert language_of("a.h", lambda: "class A {};") == "cpp"


def test_without_content_the_commonest_language_of_a_shared_name_is_taken() -> None:
    assert [language_of(f"a.{e}") for e in ("h", "m", "pl", "ts")] == [
        "c", "matlab", "perl", "typescript",
    ]  # fmt: skip


def test_every_name_in_the_tables_is_lower_case_and_most_are_known_to_pygments() -> None:
    tables = (code_language._BY_EXTENSION, code_language._BY_NAME, code_language._BY_PROGRAM)
    found = {language for table in tables for language in table.values()}
    found |= {usual for _, usual in code_language._SHARED.values()}
    found |= {name for tells, _ in code_language._SHARED.values() for name, _ in tells}
    assert all(language == language.lower() for language in found)
    known = {alias.lower() for _, aliases, _, _ in get_all_lexers() for alias in aliases}
    ours = {"csv", "jupyter", "objective-c++", "v", "apex", "qmake", "cuda", "text", "unknown",
            "pascal", "lex", "yacc", "mercury", "opencl", "svelte", "turing"}  # fmt: skip
    assert found - known <= ours
