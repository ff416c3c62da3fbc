"""Memory by hand, for compiled loops: hints of what will be asked for soon, rows copied whole."""

from typing import Any

from llvmlite import ir
from numba import types

from training.compiled import instruction

_READ, _KEEP, _DATA = 0, 3, 1  # llvm.prefetch: not written to, kept in all caches, no instructions
_BYTE, _NUMBER = ir.IntType(8).as_pointer(), ir.IntType(32)


@instruction
def prefetch(typing_context: Any, array: Any, row: Any) -> Any:
    """Fetch where row ``row`` of a C-contiguous array begins. No row is read, so any is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, _ = _row(context, builder, signature.args[0], *arguments)
        _fetch(builder, place)
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@instruction
def prefetch_inside(typing_context: Any, array: Any, row: Any, offset: Any) -> Any:
    """Fetch what lies ``offset`` bytes behind the beginning of row ``row``; any is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, row, offset = arguments
        place, _ = _row(context, builder, signature.args[0], array, row)
        _fetch(builder, builder.gep(place, [offset]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


@instruction
def copy_row(typing_context: Any, target: Any, place: Any, source: Any, row: Any) -> Any:
    """``target[place] = source[row]`` of C-contiguous arrays whose rows are equally long.

    Nothing is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, place, source, row = arguments
        into, _ = _row(context, builder, signature.args[0], target, place)
        start, size = _row(context, builder, signature.args[2], source, row)
        copy = builder.module.declare_intrinsic("llvm.memcpy", [_BYTE, _BYTE, size.type])
        builder.call(copy, [into, start, size, ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp), generate


def _row(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> tuple[Any, Any]:
    """Where a row begins, and its bytes."""
    memory = context.make_array(kind)(context, builder, array)
    stride = builder.extract_value(memory.strides, 0)
    start = builder.bitcast(memory.data, _BYTE)
    return builder.gep(start, [builder.mul(stride, row)]), stride


def _fetch(builder: Any, place: Any) -> None:
    form = ir.FunctionType(ir.VoidType(), [_BYTE, _NUMBER, _NUMBER, _NUMBER])
    function = builder.module.declare_intrinsic("llvm.prefetch", [_BYTE], form)
    how = (ir.Constant(_NUMBER, number) for number in (_READ, _KEEP, _DATA))
    builder.call(function, [place, *how])
