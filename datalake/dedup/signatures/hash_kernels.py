"""Hashes of bytes in compiled code: SHA-1, XXH3 (64 bits), and the steps that hash words.

The first two give what ``hashlib`` and ``xxhash`` give, so that signatures agree with those of
programs that use them; they take a range of an array, so that no Python object is made for a
shingle. Words are little-endian, as on every machine that Tarn runs on.
"""

# mypy: disallow_untyped_defs=False, check_untyped_defs=False
# Numba infers every type from the arrays that it is given.

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic


def _load(bits: int):
    """An intrinsic that reads ``bits`` at any byte, aligned or not."""
    integer = {32: types.uint32, 64: types.uint64}[bits]

    @intrinsic
    def load(typing_context, data, index):
        def build(context, builder, signature, arguments):
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            pointer = cgutils.gep_inbounds(builder, array.data, arguments[1])
            word = context.get_value_type(integer)
            return builder.load(builder.bitcast(pointer, word.as_pointer()), align=1, typ=word)

        return integer(data, types.int64), build

    return load


load_32 = _load(32)
load_64 = _load(64)


@intrinsic
def trailing_zeros(typing_context, word):
    """Zero bits below the lowest set bit of a uint64; 64 for zero."""

    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), build


@intrinsic
def multiply_fold(typing_context, a, b):
    """High half xor low half of the 128-bit product of two uint64."""

    def build(context, builder, signature, arguments):
        from llvmlite import ir

        wide = ir.IntType(128)
        x, y = (builder.zext(argument, wide) for argument in arguments)
        product = builder.mul(x, y)
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


@njit(cache=True, inline="always")
def mix(h):
    """The finalizer of splitmix64 (Steele et al. 2014): every bit depends on every bit."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


# --- SHA-1 (FIPS 180-4)


@njit(cache=True, inline="always")
def _rotate(x, count):
    return np.uint32(x << np.uint32(count)) | np.uint32(x >> np.uint32(32 - count))


@njit(cache=True, inline="always")
def _swap(x):
    """Bytes of a uint32 in reverse order."""
    x = np.uint32(x)
    return np.uint32(
        (x >> np.uint32(24))
        | ((x >> np.uint32(8)) & np.uint32(0xFF00))
        | ((x << np.uint32(8)) & np.uint32(0xFF0000))
        | (x << np.uint32(24))
    )


@njit(cache=True)
def _sha1_block(w, state):
    """One round of SHA-1 on ``w``: uint32 [80], of which the first 16 hold the block."""
    for t in range(16, 80):
        w[t] = _rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for t in range(20):
        f = (b & c) | (~b & d)
        a, b, c, d, e = (
            np.uint32(_rotate(a, 5) + f + e + np.uint32(0x5A827999) + w[t]),
            a,
            _rotate(b, 30),
            c,
            d,
        )
    for t in range(20, 40):
        f = b ^ c ^ d
        a, b, c, d, e = (
            np.uint32(_rotate(a, 5) + f + e + np.uint32(0x6ED9EBA1) + w[t]),
            a,
            _rotate(b, 30),
            c,
            d,
        )
    for t in range(40, 60):
        f = (b & c) | (b & d) | (c & d)
        a, b, c, d, e = (
            np.uint32(_rotate(a, 5) + f + e + np.uint32(0x8F1BBCDC) + w[t]),
            a,
            _rotate(b, 30),
            c,
            d,
        )
    for t in range(60, 80):
        f = b ^ c ^ d
        a, b, c, d, e = (
            np.uint32(_rotate(a, 5) + f + e + np.uint32(0xCA62C1D6) + w[t]),
            a,
            _rotate(b, 30),
            c,
            d,
        )
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


@njit(cache=True)
def sha1_32(data, start, end, w, state):
    """First four bytes, little-endian, of the SHA-1 of ``data[start:end]``.

    data: uint8, with eight readable bytes behind ``end``; w: uint32 [80] and state: uint32 [5] are
    scratch.
    """
    state[0], state[1], state[2] = 0x67452301, 0xEFCDAB89, 0x98BADCFE
    state[3], state[4] = 0x10325476, 0xC3D2E1F0
    length = end - start
    i = start
    while end - i >= 64:
        for t in range(16):
            w[t] = _swap(load_32(data, i + 4 * t))
        _sha1_block(w, state)
        i += 64
    rest = end - i
    for t in range(16):
        w[t] = 0
    for t in range(rest // 4):
        w[t] = _swap(load_32(data, i + 4 * t))
    tail = np.uint32(0x80) << np.uint32(8 * (rest % 4))
    for k in range(rest % 4):
        tail |= np.uint32(data[i + rest // 4 * 4 + k]) << np.uint32(8 * k)
    w[rest // 4] = _swap(tail)
    if rest >= 56:
        _sha1_block(w, state)
        for t in range(16):
            w[t] = 0
    w[14] = np.uint32(length >> 29)
    w[15] = np.uint32((length << 3) & 0xFFFFFFFF)
    _sha1_block(w, state)
    return _swap(state[0])


# --- XXH3, 64 bits, seed 0 (xxHash fast digest algorithm, specification 0.2.0)

_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
        "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
        "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
        "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
    ),
    np.uint8,
)
_P32_1, _P32_2, _P32_3 = np.uint64(0x9E3779B1), np.uint64(0x85EBCA77), np.uint64(0xC2B2AE3D)
_P64_1, _P64_2 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F)
_P64_3, _P64_4 = np.uint64(0x165667B19E3779F9), np.uint64(0x85EBCA77C2B2AE63)
_P64_5 = np.uint64(0x27D4EB2F165667C5)
_LOW = np.uint64(0xFFFFFFFF)


@njit(cache=True, inline="always")
def _xxh3_avalanche(h):
    h = (h ^ (h >> np.uint64(37))) * np.uint64(0x165667919E3779F9)
    return h ^ (h >> np.uint64(32))


@njit(cache=True, inline="always")
def _xxh64_avalanche(h):
    h = (h ^ (h >> np.uint64(33))) * _P64_2
    h = (h ^ (h >> np.uint64(29))) * _P64_3
    return h ^ (h >> np.uint64(32))


@njit(cache=True, inline="always")
def _mix_16(data, i, secret, s):
    return multiply_fold(
        load_64(data, i) ^ load_64(secret, s), load_64(data, i + 8) ^ load_64(secret, s + 8)
    )


@njit(cache=True, inline="always")
def _rotate_64(x, count):
    return (x << np.uint64(count)) | (x >> np.uint64(64 - count))


@njit(cache=True, inline="always")
def _swap_64(x):
    x = ((x & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8)) | (
        (x >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    )
    x = ((x & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16)) | (
        (x >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    )
    return _rotate_64(x, 32)


@njit(cache=True)
def _xxh3_to_16(data, i, length, secret):
    if length > 8:
        low = load_64(data, i) ^ (load_64(secret, 24) ^ load_64(secret, 32))
        high = load_64(data, i + length - 8) ^ (load_64(secret, 40) ^ load_64(secret, 48))
        return _xxh3_avalanche(np.uint64(length) + _swap_64(low) + high + multiply_fold(low, high))
    if length >= 4:
        first = np.uint64(load_32(data, i))
        last = np.uint64(load_32(data, i + length - 4))
        h = (last + (first << np.uint64(32))) ^ (load_64(secret, 8) ^ load_64(secret, 16))
        h ^= _rotate_64(h, 49) ^ _rotate_64(h, 24)
        h *= np.uint64(0x9FB21C651E98DF25)
        h ^= (h >> np.uint64(35)) + np.uint64(length)
        h *= np.uint64(0x9FB21C651E98DF25)
        return h ^ (h >> np.uint64(28))
    if length > 0:
        first, middle = np.uint64(data[i]), np.uint64(data[i + length // 2])
        last = np.uint64(data[i + length - 1])
        combined = (first << np.uint64(16)) | (middle << np.uint64(24)) | last
        combined |= np.uint64(length) << np.uint64(8)
        flip = np.uint64(load_32(secret, 0)) ^ np.uint64(load_32(secret, 4))
        return _xxh64_avalanche(combined ^ flip)
    return _xxh64_avalanche(load_64(secret, 56) ^ load_64(secret, 64))


@njit(cache=True)
def _xxh3_to_240(data, i, length, secret):
    h = np.uint64(length) * _P64_1
    end = i + length
    if length <= 128:
        for k in range((length - 1) // 32, -1, -1):
            h += _mix_16(data, i + 16 * k, secret, 32 * k)
            h += _mix_16(data, end - 16 * (k + 1), secret, 32 * k + 16)
        return _xxh3_avalanche(h)
    for k in range(8):
        h += _mix_16(data, i + 16 * k, secret, 16 * k)
    h = _xxh3_avalanche(h)
    for k in range(8, length // 16):
        h += _mix_16(data, i + 16 * k, secret, 16 * (k - 8) + 3)
    h += _mix_16(data, end - 16, secret, 136 - 17)
    return _xxh3_avalanche(h)


@njit(cache=True, inline="always")
def _stripe(data, i, secret, s, lanes):
    for k in range(8):
        value = load_64(data, i + 8 * k)
        keyed = value ^ load_64(secret, s + 8 * k)
        lanes[k ^ 1] += value
        lanes[k] += (keyed & _LOW) * (keyed >> np.uint64(32))


@njit(cache=True)
def _xxh3_long(data, i, length, secret, lanes):
    lanes[0], lanes[1], lanes[2], lanes[3] = _P32_3, _P64_1, _P64_2, _P64_3
    lanes[4], lanes[5], lanes[6], lanes[7] = _P64_4, _P32_2, _P64_5, _P32_1
    num_stripes = (length - 1) // 64
    for k in range(num_stripes):
        _stripe(data, i + 64 * k, secret, 8 * (k % 16), lanes)
        if k % 16 == 15:
            for lane in range(8):
                x = lanes[lane]
                x ^= (x >> np.uint64(47)) ^ load_64(secret, 128 + 8 * lane)
                lanes[lane] = x * _P32_1
    _stripe(data, i + length - 64, secret, 128 - 7, lanes)
    h = np.uint64(length) * _P64_1
    for k in range(4):
        h += multiply_fold(
            lanes[2 * k] ^ load_64(secret, 11 + 16 * k),
            lanes[2 * k + 1] ^ load_64(secret, 11 + 16 * k + 8),
        )
    return _xxh3_avalanche(h)


@njit(cache=True)
def xxh3_64(data, start, end, lanes):
    """XXH3 of ``data[start:end]`` with seed 0; lanes: uint64 [8] of scratch."""
    length = end - start
    if length <= 16:
        return _xxh3_to_16(data, start, length, _SECRET)
    if length <= 240:
        return _xxh3_to_240(data, start, length, _SECRET)
    return _xxh3_long(data, start, length, _SECRET, lanes)
