r"""Formulas of LaTeX: copied as they are, but for macros of the author's, labels and comments."""

from datalake.transforms.latex_macros import Stream
from datalake.transforms.latex_page import Page
from datalake.transforms.latex_tokens import RAW, name_of

_INLINE = ("$", "\\)", "}", "\\end{math}")


class Formula:
    """The formula that is being read, if any. Inline ones end with their paragraph, as for TeX."""

    def __init__(self, stream: Stream, page: Page) -> None:
        self._stream = stream
        self._page = page
        self._tokens: list[str] = []
        self._depth = 0  # of braces
        self._closer = ""  # token that ends it

    @property
    def is_open(self) -> bool:
        return bool(self._closer)

    def begin(self, opener: str, closer: str) -> None:
        self._tokens = [opener]
        self._closer = closer
        self._depth = 0

    def begin_argument(self) -> None:
        r"""Read the next argument as a formula, as ``\ensuremath`` does."""
        self.begin("$", "}")
        token = self._stream.next_visible()
        if token is not None and token != "{":
            self._stream.push(("}",))
            self._stream.push((token,))

    def take(self, token: str) -> None:
        """Read one token of it."""
        first = token[0]
        if token.rstrip() == self._closer and (not self._depth or first == "\\"):
            self.end()
        elif first == "\\":
            self._command(token)
        elif first == "$" and not self._depth and self._closer[0] == "$":
            if token == "$$":  # the end of one formula and the beginning of the next
                self.end()
                self._stream.push(("$",))
            elif (following := self._stream.next()) is not None:  # half of a display's end
                self.end()
                if following != "$":
                    self._stream.push((following,))
        elif first.isspace() and token.count("\n") > 1:
            if self._closer in _INLINE:
                self.break_off()
                self._page.paragraph()
            else:
                self._tokens.append("\n")
        else:
            if first == "{":
                self._depth += 1
            elif first == "}":
                self._depth -= 1 if self._depth else 0
            elif first == RAW:
                token = token[2:]
            elif first.isalnum() and _ends_in_word(self._tokens[-1]):
                token = f" {token}"  # TeX needs none after a macro, the text of its body does
            self._tokens.append(token)

    def end(self) -> None:
        """Write the formula, a displayed one on lines of its own."""
        formula, closer = "".join(self._tokens), self._closer
        self._closer = ""
        if closer in _INLINE:
            closer = "$" if closer == "}" else closer
            self._page.write(self._page.hold(" ".join(formula.split()) + closer))
            return
        joint = "\n" if closer.startswith("\\end") else ""
        lines = [" ".join(line.split()) for line in f"{formula}{joint}{closer}".split("\n")]
        held = self._page.hold("\n".join(line for line in lines if line))
        self._page.write(f"\n{held}\n")

    def break_off(self) -> None:
        """Write what there is of a formula that does not end."""
        self._closer = ""
        self._page.write(" ".join("".join(self._tokens).split()))

    def _command(self, token: str) -> None:
        name = name_of(token)
        stream = self._stream
        if stream.expand(name):
            return
        if token == "\\end{document}":
            self.break_off()
            stream.frames.clear()
        elif name == "label":
            stream.argument()
        elif name in ("nonumber", "notag", "ensuremath"):
            pass
        elif name in ("begin", "end"):
            stream.push_environment(name)
        elif name.isspace():  # ``\ `` and ``~`` are the same; one of them can be lost at an end
            self._tokens.append("~")
        elif name == "iff" or not (stream.branch(name, in_formula=True) or stream.define(name)):
            self._tokens.append(token)


def _ends_in_word(token: str) -> bool:
    return token[:1] == "\\" and token[-1].isalpha()
