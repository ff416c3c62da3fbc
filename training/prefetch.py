"""A hint to the processor that memory will be asked for soon, for loops that jump about in it."""

from typing import Any

from llvmlite import ir
from numba import types

from training.compiled import instruction

_READ, _KEEP, _DATA = 0, 3, 1  # llvm.prefetch: not written to, kept in all caches, no instructions


@instruction
def prefetch(typing_context: Any, array: Any, row: Any) -> Any:
    """Fetch where row ``row`` of a C-contiguous array begins. No row is read, so any is allowed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, (array, row) = signature.args[0], arguments
        memory = context.make_array(kind)(context, builder, array)
        stride = builder.extract_value(memory.strides, 0)
        byte = ir.IntType(8).as_pointer()
        start = builder.bitcast(memory.data, byte)
        place = builder.gep(start, [builder.mul(stride, row)])
        number = ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], form)
        builder.call(function, [place, *(ir.Constant(number, n) for n in (_READ, _KEEP, _DATA))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
