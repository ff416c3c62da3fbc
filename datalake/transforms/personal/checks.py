"""Check digits: what tells a number that somebody was given from any other number."""

from collections.abc import Sequence


def is_luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def weighted_sum(digits: str, weights: Sequence[int]) -> int:
    """Sum of digits times weights; the shorter of the two decides how many."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def iso_7064_mod_97(account: str) -> bool:
    """ISO 13616: country and check moved to the end, letters as 10 to 35, 1 modulo 97."""
    return int("".join(str(int(c, 36)) for c in account[4:] + account[:4])) % 97 == 1


# Verhoeff 1969: products in the dihedral group of order ten, and the permutation's powers.
_PRODUCT = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_POWER = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def is_verhoeff(digits: str) -> bool:
    """Verhoeff's check, as in Aadhaar numbers; signs between the digits are passed over."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_PRODUCT[state][int(_POWER[place % 8][int(digit)])])
    return state == 0
