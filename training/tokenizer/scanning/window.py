"""Sixteen bytes at once: which of them are letters, digits or blanks, as bits of one number.

Most pre-tokens are shorter than that, so one load tells where such a piece ends and is the key by
which it is looked up, without a loop or a branch per byte. The comparisons are written in LLVM's
vector types, which it turns into whatever vector instructions the machine has.

A caller must make sure that ``data[at:at + SIZE]`` exists: nothing is checked here.
"""

# mypy: disallow_untyped_defs=False

from llvmlite import ir
from numba import types

from training.compiled import instruction

SIZE = 16

_BYTES = ir.VectorType(ir.IntType(8), SIZE)
_WORD = ir.IntType(64)


def _pointer(context, builder, kind, array, at, pointee):
    start = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [at]), ir.PointerType(pointee))


def _all(value):
    return ir.Constant(_BYTES, [value] * SIZE)


@instruction
def window_classes(typing_context, data, at):
    """Bits of letters, upper-case letters, numbers, white space, line ends and non-ASCII bytes.

    Six uint64; bit ``i`` speaks of ``data[at + i]``, and the bits above ``SIZE`` are zero.
    """

    def generate(context, builder, signature, arguments):
        array, at = arguments
        pointer = _pointer(context, builder, signature.args[0], array, at, _BYTES)
        text = builder.load(pointer)
        text.align = 1

        def within(value, first, last):
            return builder.icmp_unsigned(
                "<", builder.sub(value, _all(first)), _all(last - first + 1)
            )

        def equal(value, byte):
            return builder.icmp_unsigned("==", value, _all(byte))

        letters = within(builder.or_(text, _all(0x20)), 0x61, 0x7A)
        upper = within(text, 0x41, 0x5A)
        numbers = within(text, 0x30, 0x39)
        blanks = builder.or_(within(text, 0x09, 0x0D), equal(text, 0x20))
        newlines = builder.or_(equal(text, 0x0A), equal(text, 0x0D))
        long = builder.icmp_signed("<", text, _all(0))
        masks = [
            builder.zext(builder.bitcast(mask, ir.IntType(SIZE)), _WORD)
            for mask in (letters, upper, numbers, blanks, newlines, long)
        ]
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.uint64, 6)(data, types.intp), generate


@instruction
def window_words(typing_context, data, at):
    """The sixteen bytes as two little-endian uint64."""

    def generate(context, builder, signature, arguments):
        words = []
        array, at = arguments
        for offset in (0, 8):
            place = builder.add(at, ir.Constant(at.type, offset))
            pointer = _pointer(context, builder, signature.args[0], array, place, _WORD)
            word = builder.load(pointer)
            word.align = 1
            words.append(word)
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(data, types.intp), generate


@instruction
def put_window_words(typing_context, data, at, low, high):
    """Write the sixteen bytes of two little-endian uint64."""

    def generate(context, builder, signature, arguments):
        array, at, *words = arguments
        for offset, word in zip((0, 8), words, strict=True):
            place = builder.add(at, ir.Constant(at.type, offset))
            pointer = _pointer(context, builder, signature.args[0], array, place, _WORD)
            builder.store(word, pointer, align=1)
        return context.get_dummy_value()

    return types.void(data, types.intp, types.uint64, types.uint64), generate


@instruction
def trailing_zeros(typing_context, bits):
    """How many zero bits are below the lowest set bit of a uint64; 64 if none is set."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def leading_zeros(typing_context, bits):
    """How many zero bits are above the highest set bit of a uint64; 64 if none is set."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate
