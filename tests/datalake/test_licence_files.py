"""Which licence holds for a file, from all the files that speak of licences."""

import json

import pytest
from identify.vendor.licenses import LICENSES

from datalake.licence_files import LicenceFiles, is_own, of_file, speaks_of_licences
from datalake.licences import UNKNOWN, Finding, is_allowed, spdx
from tests.datalake.sources.repository import MIT

TEXTS = dict(LICENSES)
APACHE = TEXTS["Apache-2.0"]


def among(files: dict[str, str], path: str = "a.py") -> Finding | None:
    assert all(speaks_of_licences(name) for name in files), files.keys()
    return LicenceFiles((name, text.encode()) for name, text in files.items()).of_folder(path)


def licence(files: dict[str, str], path: str = "a.py") -> str | None:
    found = among(files, path)
    assert found is None or spdx(found.licence) == found.licence
    return found.licence if found else None


@pytest.mark.parametrize(
    ("path", "speaks"),
    [
        ("LICENSE", True), ("LICENCE.md", True), ("COPYING.LESSER", True), ("a/UNLICENSE", True),
        ("LICENSE-MIT", True), ("LICENSE.APACHE", True), ("MIT-LICENSE.txt", True),
        ("NOTICE", True), ("README.rst", True), ("docs/README.md", False), ("package.json", True),
        ("x/Cargo.toml", True), ("a.gemspec", True), ("logo.png.license", True),
        ("REUSE.toml", True), (".reuse/dep5", True), ("LICENSES/MIT.txt", True),
        ("a/LICENSES/MIT.txt", False),
        ("license.py", False), ("licenses.json", False), ("license_check.go", False),
        ("src/main.py", False), ("relicense.md", False),
    ],
)  # fmt: skip
def test_files_that_speak_of_licences_are_known_by_name(path: str, speaks: bool) -> None:
    assert speaks_of_licences(path) is speaks


def test_the_nearest_folder_holds_and_unknown_texts_stop_what_is_above() -> None:
    files = {"LICENSE": MIT, "b/LICENSE": APACHE, "b/c/COPYING": "Ask me before you use this.\n"}
    paths = ("a.py", "a/a.py", "b/a.py", "b/x/y/a.py", "b/c/a.py", "bc/a.py")
    assert [licence(files, path) for path in paths] == [
        "MIT", "MIT", "Apache-2.0", "Apache-2.0", UNKNOWN, "MIT",
    ]  # fmt: skip
    assert not is_allowed(UNKNOWN)
    assert among(files, "b/a.py") == Finding("Apache-2.0", "b/LICENSE is Apache-2.0", 1.0)


def test_nothing_said_is_nothing_found() -> None:
    assert licence({}) is None
    assert licence({"README.md": "# Thing\n\nWords.\n", "package.json": "{}"}) is None
    assert licence({"sub/LICENSE": MIT}) is None


def test_several_texts_hold_together_unless_a_choice_is_said() -> None:
    assert licence({"LICENSE": MIT, "COPYING": APACHE}) == "Apache-2.0 AND MIT"
    assert licence({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}) == "Apache-2.0 OR MIT"
    said = "Available under the terms of either of the licences in LICENSE.APACHE or LICENSE.MIT."
    files = {"LICENSE": said, "LICENSE.APACHE": APACHE, "LICENSE.MIT": MIT}
    assert licence(files) == "Apache-2.0 OR MIT"
    files["COPYING"] = TEXTS["GPL-3.0"]  # of which that sentence does not speak
    assert licence(files) == "(Apache-2.0 OR MIT) AND GPL-3.0-only"
    assert licence({"LICENSE": MIT, "LICENSE.other": "Ask us.\n"}) == f"MIT AND {UNKNOWN}"


def test_a_restriction_makes_a_licence_one_that_is_not_allowed() -> None:
    found = among({"LICENSE": MIT + '\n"Commons Clause" License Condition v1.0\n'})
    assert found is not None and not is_allowed(found.licence)
    assert found.evidence == "LICENSE restricts MIT" and found.confidence == 0.5


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pyproject.toml", '[project]\nlicense = "MIT OR Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD-3-Clause"}\n', "BSD-3-Clause"),
        ("pyproject.toml", '[project]\nlicense = {file = "L"}\nclassifiers = ["License :: OSI '
         'Approved :: MIT License"]\n', "MIT"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "MIT"\n', "MIT"),
        ("pyproject.toml", "[project\n", None),
        ("pyproject.toml", "project = 1\n", None),
        ("setup.cfg", "[metadata]\nlicense = MIT\n", "MIT"),
        ("setup.cfg", "[metadata]\nclassifiers =\n  License :: OSI Approved :: Apache Software "
         "License\n", "Apache-2.0"),
        ("setup.cfg", "nothing\n", None),
        ("setup.py", "setup(name='a', license='Apache 2.0')\n", "Apache-2.0"),
        ("PKG-INFO", "Metadata-Version: 2.4\nLicense-Expression: MIT\n\ntext\n", "MIT"),
        ("package.json", '{"license": "(MIT OR CC0-1.0)"}', "MIT OR CC0-1.0"),
        ("package.json", '{"license": {"type": "ISC", "url": "x"}}', "ISC"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}',
         "MIT OR Apache-2.0"),
        ("package.json", '{"license": "UNLICENSED"}', UNKNOWN),
        ("package.json", '{"license": "SEE LICENSE IN x"}', None),
        ("package.json", '{"license": 3, "licenses": {}}', None),
        ("package.json", "[" * 5000, None),
        ("composer.json", '{"license": ["LGPL-2.1-only", "GPL-3.0-or-later"]}',
         "LGPL-2.1-only OR GPL-3.0-or-later"),
        ("composer.json", '{"license": "MIT"}', "MIT"),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("Cargo.toml", "[package]\nlicense.workspace = true\n", None),
        ("a.gemspec", "Gem::Specification.new do |s|\n  s.license = 'MIT'\nend\n", "MIT"),
        ("a.gemspec", "s.licenses = ['Ruby', 'BSD-2-Clause']\n", "Ruby AND BSD-2-Clause"),
        ("pom.xml", "<project><licenses><license><name>The Apache Software License, Version 2.0"
         "</name></license></licenses></project>", "Apache-2.0"),
        ("pom.xml", "<project/>", None),
    ],
)  # fmt: skip
def test_package_metadata_is_read(name: str, text: str, expected: str | None) -> None:
    assert licence({name: text}) == expected


def test_metadata_and_texts_complete_each_other() -> None:
    def package(said: str) -> str:
        return json.dumps({"license": said})

    gpl = TEXTS["GPL-3.0"]
    # A text does not say whether later versions count, nor that one may choose.
    assert (
        licence({"LICENSE": gpl, "package.json": package("GPL-3.0-or-later")}) == "GPL-3.0-or-later"
    )
    assert licence({"LICENSE": gpl}) == "GPL-3.0-only"
    both = {"LICENSE": MIT, "COPYING": APACHE, "package.json": package("MIT OR Apache-2.0")}
    assert licence(both) == "MIT OR Apache-2.0"
    # One that is named has its text elsewhere; one that is not named is in the text all the same.
    assert licence({"LICENSE": MIT, "package.json": package("MIT AND ISC")}) == "MIT AND ISC"
    bundled = {"LICENSE": MIT + "\n\n" + APACHE, "package.json": package("MIT")}
    assert licence(bundled) == "Apache-2.0 AND MIT"
    # A family's name says less than a text of it.
    bsd = {"LICENSE": TEXTS["BSD-2-Clause"], "setup.cfg": "[metadata]\nlicense = BSD\n"}
    assert licence(bsd) == "BSD-2-Clause"
    unknown = among({"LICENSE": "Ask us.", "package.json": package("MIT")})
    assert unknown is not None and (unknown.licence, unknown.confidence) == ("MIT", 0.8)


def test_metadata_and_texts_that_disagree_hold_together_and_it_is_said() -> None:
    found = among({"LICENSE": TEXTS["GPL-3.0"], "package.json": '{"license": "MIT"}'})
    assert found is not None
    assert (found.licence, found.confidence) == ("MIT AND GPL-3.0-only", 0.5)
    assert found.evidence.endswith("which disagree")


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("# A\n\n## License\n\nMIT\n", "MIT"),
        ("A\n=\n\nLicense\n-------\n\nDistributed under the Apache License 2.0.\n", "Apache-2.0"),
        ("# A\n\n## Licence\n\nDual-licensed under MIT or Apache 2.0.\n", "Apache-2.0 OR MIT"),
        ("# A\n\n## License\n\nSee the file.\n\n## MIT\n", None),
        ("# A\n\nMIT is a university.\n", None),
    ],
)
def test_the_readme_is_the_weakest_and_counts_at_the_top_alone(
    readme: str, expected: str | None
) -> None:
    found = among({"README.md": readme})
    assert (found and found.licence) == expected
    assert found is None or found.confidence == 0.5
    assert licence({"README.md": readme, "LICENSE": TEXTS["Zlib"]}) == "Zlib"
    deeper = LicenceFiles([("b/README.md", readme.encode())])
    assert deeper.of_folder("b/a.py") is None


def test_a_file_speaks_for_itself_before_anything_else() -> None:
    licences = LicenceFiles([("LICENSE", MIT.encode())])
    tagged = b"# SPDX-License-Identifier: Apache-2.0\n"
    noticed = b'# Licensed under the Apache License, Version 2.0 (the "License");\n'
    assert licences.of("a.py", tagged) == Finding("Apache-2.0", "SPDX tag in the file", 1.0)
    assert licences.of("a.py", noticed) == Finding("Apache-2.0", "notice in the file", 0.9)
    assert licences.of("a.py", b"x = 1\n") == Finding("MIT", "LICENSE is MIT", 1.0)
    assert all(is_own(found.evidence) for p in (tagged, noticed) if (found := of_file(p)))
    assert not is_own("LICENSE is MIT") and not is_own(None)


@pytest.mark.parametrize(
    ("begin", "line", "end"),
    [
        ("#!/bin/sh\n", "# ", ""), ("/*\n", " * ", " */\n"), ("// x\n", "// ", ""),
        ('"""Words.\n', "", '"""\n'), ("<!--\n", "  ", "-->\n"), ("(*\n", "", "*)\n"),
        ("<?php\n/**\n", " * ", " */\n"), ("% tex\n", "% ", ""), ("-- sql\n", "-- ", ""),
        ("#include <a.h>\n\n/* one line */\n", "// ", ""),
    ],
)  # fmt: skip
def test_a_notice_counts_in_the_comments_at_the_top_alone(begin: str, line: str, end: str) -> None:
    notice = (
        f'{line}Licensed under the Apache License, Version 2.0 (the\n{line}"License"); you may\n'
    )
    code = "x = f(1);\n"
    found = of_file((begin + notice + end + code).encode())
    assert found == Finding("Apache-2.0", "notice in the file", 0.9)
    assert of_file((code + begin + notice + end).encode()) is None


def test_reuse_says_it_per_file_and_per_pattern() -> None:
    files = {
        "LICENSE": MIT,
        "logo.svg.license": "SPDX-FileCopyrightText: A\nSPDX-License-Identifier: CC0-1.0\n",
        "REUSE.toml": 'version = 1\n[[annotations]]\npath = ["docs/**", "*.md"]\n'
        'SPDX-License-Identifier = "CC-BY-4.0"\n[[annotations]]\npath = "docs/code/*.py"\n'
        'SPDX-License-Identifier = ["MIT", "Zlib"]\n',
        ".reuse/dep5": "Format: https://example.org\n\nFiles: old/* x.c\nLicense: ISC\n",
    }
    paths = (
        "logo.svg",
        "docs/a/b.md",
        "a.md",
        "s/a.md",
        "docs/code/a.py",
        "old/y/z.c",
        "x.c",
        "y.c",
    )
    assert [licence(files, path) for path in paths] == [
        "CC0-1.0", "CC-BY-4.0", "CC-BY-4.0", "MIT", "MIT AND Zlib", "ISC", "ISC", "MIT",
    ]  # fmt: skip


def test_a_store_of_texts_names_what_holds_where_nothing_else_does() -> None:
    stored = {"LICENSES/MIT.txt": MIT, "LICENSES/CC0-1.0.txt": "anything"}
    assert licence(stored) == "CC0-1.0 AND MIT"
    assert licence(stored | {"LICENSE": TEXTS["Zlib"]}) == "Zlib"
    assert licence({"LICENSES/LicenseRef-ours.txt": "anything"}) == UNKNOWN


def test_a_copyright_file_counts_where_it_holds_a_licence() -> None:
    assert licence({"LICENSE": MIT, "COPYRIGHT": "Copyright 2020 by many.\n"}) == "MIT"
    assert licence({"COPYRIGHT": "Copyright 2020 by many.\n"}) is None
    assert licence({"COPYRIGHT": APACHE}) == "Apache-2.0"


def test_a_notice_file_holds_where_there_is_no_text() -> None:
    assert licence({"NOTICE": MIT}) == "MIT"
    assert licence({"NOTICE": MIT, "LICENSE": APACHE}) == "Apache-2.0"
    assert licence({"NOTICE": "This product includes software."}) is None


def test_what_is_too_large_or_damaged_says_nothing() -> None:
    assert LicenceFiles([("LICENSE", MIT.encode() + b" " * (1 << 20))]).of_folder("a") is None
    assert licence({"REUSE.toml": "annotations = 3\n", ".reuse/dep5": "\n\n:\n"}) is None
