"""Licence texts: filled in, broken otherwise, changed, several in one, and unknown."""

import random
import textwrap
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identify.vendor.licenses import LICENSES

from datalake.licence_texts import MIN_CONTAINMENT, compare, notice_in
from datalake.licences import is_allowed, spdx
from tests.datalake.sources.repository import MIT

TEXTS = dict(LICENSES)
NAMES = {
    name: f"{name}-only" if name.startswith(("GPL", "LGPL", "AGPL")) else name for name in TEXTS
}
BSD_4 = TEXTS["BSD-3-Clause"].replace(
    "3. Neither",
    "3. All advertising materials mentioning features or use of this software must\n"
    "   display the following acknowledgement: This product includes software\n"
    "   developed by A. Person.\n\n4. Neither",
)


def found(text: str) -> list[str]:
    return [match.licence for match in compare(text).matches]


@pytest.mark.parametrize("name", TEXTS)
def test_every_known_text_is_itself_and_a_licence_of_spdx(name: str) -> None:
    comparison = compare(TEXTS[name])
    assert comparison.exact and comparison.num_others == 0
    assert found(TEXTS[name]) == [NAMES[name]]
    assert spdx(NAMES[name]) == NAMES[name]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_known_with_names_filled_in_broken_otherwise_and_in_a_comment(name: str) -> None:
    text = (
        TEXTS[name].replace("[year]", "2019-2024").replace("[fullname]", "A. Person & Sons, Inc.")
    )
    text = text.replace("[project]", "Thing").replace("[name of project]", "Thing")
    if name.startswith("BSD"):
        text = text.replace("the copyright holder nor", "A. Person & Sons, Inc. nor")
        text = text.upper().replace("THE COPYRIGHT HOLDERS", "A. PERSON & SONS, INC.")
    paragraphs = [textwrap.fill(p, 60) for p in text.split("\n\n")]
    text = "Thing's licence\n\nCopyright (c) 2001, 2002 B. Person <b@example.org>\n\n"
    text += "All rights reserved.\n\n" + "\n\n".join(paragraphs)
    assert found(text) == [NAMES[name]]
    commented = "/*\n" + textwrap.indent(text, " * ", lambda line: True) + "\n */\n"
    assert found(commented) == [NAMES[name]]
    assert found(text.replace("\n", "\r\n")) == [NAMES[name]]
    assert not compare(text).is_restricted


@pytest.mark.parametrize("name", ["MIT", "BSD-3-Clause", "Apache-2.0", "MPL-2.0", "GPL-3.0"])
def test_small_changes_are_survived_and_large_ones_are_not(name: str) -> None:
    words = TEXTS[name].split()
    random.seed(0)
    few, many = words.copy(), words.copy()
    for place in random.sample(range(len(words)), len(words) // 100):  # one run in 20 or less
        few[place] = "other"
    for place in random.sample(range(len(words)), len(words) // 10):
        many[place] = "other"
    assert found(" ".join(few)) == [NAMES[name]]
    assert MIN_CONTAINMENT <= compare(" ".join(few)).matches[0].containment < 1.0
    assert found(" ".join(many)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BSD_4, ["BSD-4-Clause"]),
        (MIT + "\nThe Software shall be used for Good, not Evil.\n", ["JSON"]),
        (
            MIT.replace(
                ", subject to the following conditions:\n\nThe above copyright notice and this "
                "permission notice shall be included in all\ncopies or substantial portions of "
                "the Software.",
                ".",
            ).replace(
                "furnished to do so, subject to the following conditions:\n\n"
                "The above copyright notice and this permission notice shall be included in all\n"
                "copies or substantial portions of the Software.\n",
                "furnished to do so.\n",
            ),
            ["MIT-0"],
        ),
        (
            MIT
            + "\nExcept as contained in this notice, the name of A. Person shall not be used in "
            "advertising or otherwise to promote the sale, use or other dealings in this Software "
            "without prior written authorization from A. Person.\n",
            ["X11"],
        ),
        (TEXTS["Apache-2.0"].partition("END OF TERMS")[0], ["Apache-2.0"]),
        (TEXTS["GPL-2.0"].partition("END OF TERMS")[0], ["GPL-2.0-only"]),
    ],
    ids=["BSD-4", "JSON", "MIT-0", "X11", "Apache without appendix", "GPL without appendix"],
)
def test_near_variants_are_kept_apart(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@given(
    st.sets(st.sampled_from(["MIT", "Apache-2.0", "BSD-3-Clause", "MPL-2.0", "Zlib"]), min_size=1)
)
def test_several_texts_in_one_are_all_found(names: set[str]) -> None:
    collected = "\n\n=====\n\n".join(f"{name} of part {name}\n{TEXTS[name]}" for name in names)
    assert set(found(collected)) == names
    assert not compare(collected).is_choice


def test_a_choice_is_known_by_the_words_around_the_texts() -> None:
    text = "This software is dual-licensed: you may choose either one.\n\n"
    assert compare(text + MIT + TEXTS["Apache-2.0"]).is_choice
    assert not compare(MIT + TEXTS["Apache-2.0"]).is_choice
    # The licence's own words are no choice among licences.
    assert not compare(TEXTS["GPL-2.0"]).is_choice


@pytest.mark.parametrize(
    "words",
    [
        'The Software is provided under the MIT License with the "Commons Clause" condition.',
        "The above holds for noncommercial use.",
        "It may be used for research purposes only.",
        "Commercial use is prohibited.",
    ],
)
def test_words_that_take_back_what_a_licence_grants_are_noticed(words: str) -> None:
    comparison = compare(MIT + "\n" + words)
    assert comparison.is_restricted and found(MIT + "\n" + words) == ["MIT"]


def test_relatives_of_creative_commons_are_told_by_their_elements() -> None:
    text = TEXTS["CC-BY-4.0"].replace("Attribution 4.0", "Attribution-NonCommercial 4.0")
    assert found(text) == ["CC-BY-NC-4.0"] and not is_allowed("CC-BY-NC-4.0")
    text = TEXTS["CC-BY-4.0"].replace("Attribution 4.0", "Attribution-NoDerivatives 4.0")
    assert found(text) == ["CC-BY-ND-4.0"]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "MIT", "All rights reserved.", "x " * 1000, "Ünïcödé " * 100, MIT[:600]]
)
def test_what_is_no_known_text_gives_nothing(text: str) -> None:
    assert compare(text).matches == ()


@pytest.mark.parametrize(
    "text", ["\n" * 500_000, "- " * 250_000, "copyright " * 50_000, "(a) " * 100_000,
             "a-" * 250_000, "gnu general public license " * 20_000, "#" * 500_000, "0 " * 250_000],
)  # fmt: skip
def test_hostile_texts_cost_little_time(text: str) -> None:
    began = time.perf_counter()
    compare(text)
    notice_in(text)
    assert time.perf_counter() - began < 5.0


GPL_NOTICE = """
# This program is free software: you can redistribute it and/or modify it under the terms of the
# GNU {which}General Public License as published by the Free Software Foundation, {version}.
"""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (GPL_NOTICE.format(which="", version="either version 3 of the License, or\n# (at your "
         "option) any later version"), ["GPL-3.0-or-later"]),
        (GPL_NOTICE.format(which="", version="version 2"), ["GPL-2.0-only"]),
        (GPL_NOTICE.format(which="Lesser ", version="either\n# version 2.1 of the License, or (at "
         "your option) any later version"), ["LGPL-2.1-or-later"]),
        (GPL_NOTICE.format(which="Affero ", version="version 3"), ["AGPL-3.0-only"]),
        ('// Licensed under the Apache License, Version 2.0 (the "License");', ["Apache-2.0"]),
        ("/* This Source Code Form is subject to the terms of the Mozilla Public\n * License, v. "
         "2.0. If a copy */", ["MPL-2.0"]),
        ("# This file is released under the MIT license.", ["MIT"]),
        ("# Use is governed by a BSD-style license, found in the LICENSE file.", []),
        ("x = 'license'", []),
    ],
)  # fmt: skip
def test_notices_say_which_version_and_whether_later_ones_count(
    head: str, expected: list[str]
) -> None:
    assert notice_in(head) == expected
    assert all(spdx(licence) == licence for licence in expected)
