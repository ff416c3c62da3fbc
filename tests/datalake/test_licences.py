"""Which licence holds, and whether it is on the allow list."""

from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_license_index

from datalake import licences
from datalake.licences import (
    UNKNOWN,
    Finding,
    both,
    either,
    from_metadata,
    from_source,
    from_url,
    is_allowed,
    keys,
    spdx,
)

ALLOWED = ("MIT", "Apache-2.0", "BSD-3-Clause", "PSF-2.0", "0BSD", "CC0-1.0", "CC-BY-4.0", "Zlib")
REFUSED = ("GPL-3.0-only", "LGPL-2.1-or-later", "AGPL-3.0-only", "MPL-2.0", "EPL-2.0",
           "CC-BY-SA-4.0", "CC-BY-NC-4.0", "BUSL-1.1")  # fmt: skip

expressions = st.recursive(
    st.sampled_from([(e, True) for e in ALLOWED] + [(e, False) for e in REFUSED]),
    lambda inner: st.builds(
        lambda a, b, word: (
            f"({a[0]}) {word} ({b[0]})",
            (a[1] or b[1]) if word == "OR" else (a[1] and b[1]),
        ),
        inner,
        inner,
        st.sampled_from(["OR", "AND"]),
    ),
    max_leaves=6,
)


@given(expressions)
def test_or_needs_one_allowed_licence_and_and_needs_all(expression: tuple[str, bool]) -> None:
    text, expected = expression
    assert is_allowed(text) is expected


@given(expressions)
def test_a_normal_form_is_judged_like_its_expression(expression: tuple[str, bool]) -> None:
    normal = spdx(expression[0])
    assert normal is not None and is_allowed(normal) is expression[1]
    assert spdx(normal) == normal


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Apache-2.0 WITH LLVM-exception", True),
        # An exception to copyleft leaves it copyleft.
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("MIT OR LicenseRef-of-nobody", True),
        ("MIT AND LicenseRef-of-nobody", False),
        ("GPL-2.0", False),
        ("mit", True),
        ("MIT MIT", False),
        ("((", False),
        ("", False),
        ("all rights reserved", False),
    ],
)
def test_exceptions_and_unknown_licences_are_judged_carefully(
    expression: str, expected: bool
) -> None:
    assert is_allowed(expression) is expected


def test_the_allow_list_is_the_one_of_the_stack() -> None:
    # ScanCode's Permissive and Public Domain; some 430 of them have an SPDX id.
    allowed = [
        entry["spdx_license_key"]
        for entry in get_license_index()
        if entry.get("spdx_license_key") and is_allowed(entry["spdx_license_key"])
    ]
    public = [key for key in allowed if not key.startswith("LicenseRef-")]
    assert 400 < len(public) < 600
    assert {"MIT", "Python-2.0", "PostgreSQL", "BlueOak-1.0.0", "Unlicense"} <= set(public)


def metadata(**fields: str | list[str]) -> Message:
    """Core metadata with these fields; ``_`` stands for ``-``."""
    message = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


MIT = "License :: OSI Approved :: MIT License"
APACHE = "License :: OSI Approved :: Apache Software License"
MPL = "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"
GPL = "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"
OSI = "License :: OSI Approved"
LONG = "Copyright (c) 2001 A. Person\nAll rights reserved.\n\nRedistribution and use ..."


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"License_Expression": "MIT OR Apache-2.0", "License": "BSD"}, "MIT OR Apache-2.0"),
        ({"License_Expression": "apache-2.0"}, "Apache-2.0"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"License": "BSD"}, "BSD-3-Clause"),
        ({"License": "3-Clause BSD License"}, "BSD-3-Clause"),
        ({"License": "The MIT License"}, "MIT"),
        ({"License": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT"),
        ({"License": "GPLv3"}, "GPL-3.0-only"),
        ({"License": "Dual License", "Classifier": [MIT, APACHE]}, "MIT AND Apache-2.0"),
        ({"License": LONG, "Classifier": MIT}, "MIT"),
        ({"License": "MIT License\n\nCopyright (c) 2022 A. Person"}, "MIT"),
        ({"Classifier": [OSI, MPL]}, "MPL-2.0"),
        ({"Classifier": GPL}, "GPL-3.0-only"),
        ({"License": "Apache 2.0", "Classifier": "License :: Other/Proprietary License"},
         "Apache-2.0"),
        ({"Classifier": [MIT, "License :: OSI Approved :: A New License"]}, None),
        ({"Classifier": OSI}, None),
        ({"License": LONG}, None),
        ({"License": "see LICENSE.txt"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_metadata_is_read_from_the_clearest_field_to_the_vaguest(
    fields: dict[str, str | list[str]], expected: str | None
) -> None:
    found = from_metadata(metadata(**fields))  # type: ignore[arg-type]
    assert (found and found.licence) == expected


def test_every_alias_is_a_known_licence() -> None:
    for alias, licence in licences._ALIASES.items():
        assert spdx(licence) == licence, alias
        assert spdx(f"The {alias.upper()} License") == licence, alias


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"# SPDX-License-Identifier: BSD-3-Clause\n", "BSD-3-Clause"),
        (b"#!/bin/sh\n// SPDX-License-Identifier: MIT OR Apache-2.0\r\n", "MIT OR Apache-2.0"),
        (b"/* SPDX-License-Identifier: GPL-2.0-only */", "GPL-2.0-only"),
        (b"<!-- SPDX-License-Identifier: MIT -->", "MIT"),
        (b"# SPDX-License-Identifier: nonsense here\n", None),
        (b"\n" * 5000 + b"# SPDX-License-Identifier: MIT\n", None),
        (b"x = 1\n", None),
        (b"", None),
    ],
)
def test_a_tag_near_the_top_of_a_file_is_read(head: bytes, expected: str | None) -> None:
    found = from_source(head)
    assert (found and found.licence) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("http://creativecommons.org/licenses/by/3.0/deed.de", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/4.0", "CC-BY-NC-ND-4.0"),
        ("//creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://spdx.org/licenses/BSD-3-Clause.html", "BSD-3-Clause"),
        ("https://www.apache.org/licenses/LICENSE-2.0.txt", "Apache-2.0"),
        ("https://www.gnu.org/licenses/gpl-3.0.html", "GPL-3.0-only"),
        ("https://example.com/license", None),
        ("", None),
    ],
)
def test_the_address_of_a_licence_names_it(url: str, expected: str | None) -> None:
    assert from_url(url) == expected


def test_findings_say_where_and_how_sure() -> None:
    assert from_source(b"# SPDX-License-Identifier: MIT\n") == Finding(
        "MIT", "SPDX tag in the file", 1.0
    )
    stated = from_metadata(metadata(License_Expression="MIT"))  # type: ignore[arg-type]
    assert stated == Finding("MIT", "License-Expression", 1.0)
    vague = from_metadata(metadata(License="BSD"))  # type: ignore[arg-type]
    assert vague == Finding("BSD-3-Clause", "License field", 0.9)


def test_several_tags_hold_together_and_one_of_an_author_is_unknown() -> None:
    two = b"# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: ISC\n"
    assert from_source(two) == Finding("MIT AND ISC", "SPDX tag in the file", 1.0)
    own = from_source(b"# SPDX-License-Identifier: LicenseRef-ours\n")
    assert own is not None and own.licence == UNKNOWN
    assert not is_allowed(UNKNOWN)


def test_expressions_are_joined() -> None:
    assert both([]) is None and either([]) is None
    assert both(["MIT", "MIT"]) == either(["MIT"]) == "MIT"
    assert both(["MIT OR ISC", "Zlib"]) == "(MIT OR ISC) AND Zlib"
    assert either(["MIT", "Apache-2.0"]) == "MIT OR Apache-2.0"
    assert keys("(MIT OR ISC) AND GPL-2.0-only WITH Classpath-exception-2.0") >= {"MIT", "ISC"}
