from types import ModuleType

import pytest

from training.compiled import digest

SOURCE = """
from training.compiled import compiled, inlined, instruction
from numba import types
WIDTH = 3

@instruction
def low(typing_context, x):
    def generate(context, builder, signature, arguments):
        return arguments[0]
    return types.int64(types.int64), generate

@inlined
def helper(x):
    return x + WIDTH

@compiled
def callee(x):
    return helper(low(x)) * 2

@compiled
def loop(x):
    return callee(x)
"""


def digest_of(source: str) -> str:
    module = ModuleType("training.tokenizer.made_up")
    exec(compile(source, __file__, "exec"), vars(module))
    return digest(module.loop)


def test_the_same_code_has_the_same_digest_wherever_it_stands():
    assert digest_of(SOURCE) == digest_of("# moved by a line\n" + SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("* 2", "* 3"), ("x + WIDTH", "x - WIDTH"), ("WIDTH = 3", "WIDTH = 4"), ("[0]", "[-1]")],
)
def test_whatever_a_compiled_loop_reaches_changes_its_digest(old, new):
    assert old in SOURCE
    assert digest_of(SOURCE) != digest_of(SOURCE.replace(old, new))
