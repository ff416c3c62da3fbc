import json

import pytest

from datalake.transforms.notebook_text import read_notebook
from datalake.transforms.text import Text, Unreadable


def notebook(*cells: dict, **metadata) -> Text:
    return read_notebook(json.dumps({"nbformat": 4, "metadata": metadata, "cells": cells}).encode())


def code(source: str, *outputs: dict) -> dict:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def markdown(source: str | list[str]) -> dict:
    return {"cell_type": "markdown", "source": source}


def result(**data: str) -> dict:
    return {
        "output_type": "execute_result",
        "data": {kind.replace("_", "/"): said for kind, said in data.items()},
    }


def test_prose_and_code_stand_in_their_order():
    text = notebook(
        markdown(["# A study\n", "of things"]),
        code("x = 1\nx + 1", result(text_plain="2")),
        markdown("The end."),
        kernelspec={"language": "python"},
    )
    assert text.text == (
        "# A study\nof things\n\n```python\nx = 1\nx + 1\n```\n\n```\n2\n```\n\nThe end.\n"
    )
    assert text.title == "A study"


def test_a_notebook_of_format_3_reads_the_same():
    cells = [
        {"cell_type": "heading", "level": 2, "source": "Old"},
        {"cell_type": "markdown", "source": "prose"},
        {
            "cell_type": "code",
            "language": "python",
            "input": ["x = 1\n", "x"],
            "outputs": [{"output_type": "pyout", "text": ["1"], "png": ""}, {"text": "1"}],
        },
    ]
    old = {"nbformat": 3, "metadata": {"name": ""}, "worksheets": [{"cells": cells}]}
    text = read_notebook(json.dumps(old).encode())
    assert text.text == "## Old\n\nprose\n\n```python\nx = 1\nx\n```\n\n```\n1\n```\n"
    assert text.title == "Old"


def test_pictures_are_dropped_wherever_they_are():
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 50
    text = notebook(
        markdown(f"before ![a plot]({picture}) after <img src='{picture}'>"),
        code("plot()", result(image_png="iVBORw0KGgo", text_plain="<Figure size 640x480>")),
    )
    assert text.text == "before a plot after \n\n```\nplot()\n```\n"


def test_only_short_results_of_text_are_kept():
    text = notebook(
        code(
            "f()",
            {"output_type": "stream", "name": "stdout", "text": ["said\n"]},
            {"output_type": "stream", "name": "stderr", "text": ["warned\n"]},
            {"output_type": "error", "ename": "E", "text": "failed"},
            result(text_plain="x" * 1001),
            result(text_html="<table>"),
        )
    )
    assert text.text == "```\nf()\n```\n\n```\nsaid\n```\n"


def test_a_fence_is_longer_than_those_in_the_code():
    assert notebook(code('"""\n```\n"""')).text == '````\n"""\n```\n"""\n````\n'


@pytest.mark.parametrize(("prose", "language"), [("short", "julia"), ("long " * 40, None)])
def test_the_language_is_the_kernels_where_most_is_code(prose, language):
    cells = markdown(prose), code("println(1 + 1) # and so on")
    assert notebook(*cells, language_info={"name": "Julia"}).language == language


@pytest.mark.parametrize(
    "unit",
    ["![a", "<img ", "![](data:", "<img src=data:", "```", "# ", "#", " ", "[", "\n", "<a src="],
)
def test_a_cell_made_to_be_slow_is_not(unit):
    source = unit * (300_000 // len(unit)) + "x\n"
    cells = markdown("# " + source), markdown(source), code(source)
    assert notebook(*cells).text  # minutes, where any part of it took quadratic time


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not a notebook: damaged JSON"),
        (b"[" * 100_000, "not a notebook: damaged JSON"),
        (b"[]", "not a notebook: no cells"),
        (b'{"worksheets": 3}', "not a notebook: no cells"),
        (b'{"cells": []}', "empty"),
        (b'{"cells": [3, {"cell_type": "code", "source": {"a": 1}}, null]}', "empty"),
    ],
)
def test_what_is_no_notebook_says_why(payload, reason):
    with pytest.raises(Unreadable, match=reason):
        read_notebook(payload)
