"""Texts that meet the special cases of signals far more often than random characters would."""

from hypothesis import strategies as st

PIECES = st.sampled_from(
    ["\n", "\n\n", "\r\n", "\r", " ", "\t", "\x0b", "\x85", "\u2028", "\u00a0", "\u3000", "\x1c"]
    + [".", "..", "...", "....", "…", "#", "-", "•", "_", "'", '"', "?", "!", "{", "[", "]", ")"]
    + ["the", "be", "to", "of", "and", "that", "The", "a", "b", "cd", "Ωμέγα", "naïve", "İ", "ß"]
    + ["日本", "ไทย", "ที่นี่", "٣", "½", "𝔘", "👩‍🔬", "\u0301", "x" * 40, "1234", "e\u0301"]
    + ["。", "！", "」", "。」", ".)", "؟", "।", "ǅ", "ⅷ", "²", "ABC", "K", "ſ", "\x00", "\ue000"]
    + ["[1]", "[]", "[edit]", "[citation needed]", "[Edit]", "[٣]", "javascript", "JavaScript"]
    + ["lorem ipsum", "Lorem Ipsum", "terms of use", "Privacy Policy", "cookie policy"]
    + ["uses cookies", "use of cookies", "use cookies", "cookies"]
    + ["items in cart", " Items in Cart", "Read more...", "read more...", "Sign-in", "sign-in "]
    + ["3 likes", "1.2k Views", "(2,000 followers)", "5kk likes", "likes", "y" * 1001]
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=80).map("".join),
    st.lists(PIECES, max_size=80).map(" ".join),
    st.lists(st.lists(PIECES, max_size=12).map(" ".join), max_size=12).map("\n".join),
)
