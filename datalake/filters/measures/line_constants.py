"""What the line rules of C4, FineWeb and RefinedWeb look for: their constants, by their names.

``line_kernels`` says what each rule means. This module is light: it compiles nothing.
"""

# Verdicts.
(
    KEPT,
    LONG_WORD,
    NO_END_MARK,
    FEW_WORDS,
    JAVASCRIPT,
    POLICY,
    UPPERCASE,
    NUMERIC,
    COUNTER,
    EMPTIED,
) = range(10)
# Variants.
C4, FINEWEB_C4, REFINEDWEB = range(3)
# What a line says, as bits.
SAYS_JAVASCRIPT, SAYS_LOREM_IPSUM, SAYS_POLICY, SAYS_CURLY, SAYS_BRACKET = 1, 2, 4, 8, 16
SAYS_ITEMS, SAYS_MORE = 32, 64  # in cart; read more...

MAX_WORD = 1000  # characters
MIN_WORDS = (5, 3, 2)  # by variant
MAX_EDITED_WORDS = 10
MAX_UPPERCASE, MAX_NUMERIC = 0.5, 0.999999

ITEMS_IN_CART, READ_MORE, SIGN_IN = "items in cart", "read more...", "sign-in"
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
COUNTED = (
    "likes",
    "shares",
    "comments",
    "retweets",
    "reposts",
    "quotes",
    "bookmarks",
    "upvotes",
    "downvotes",
    "downloads",
    "views",
    "followers",
)
