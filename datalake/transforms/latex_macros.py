r"""Tokens of LaTeX with macros expanded on the way, as TeX's own gullet does it.

Tokens come from a stack of iterators; a macro pushes its body, ``\input`` a file. Nothing is
recursive, and what expansion costs is counted, so that neither deep nesting nor a macro bomb takes
more than the bound.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from datalake.transforms.latex_tokens import name_of, tokens
from datalake.transforms.text import Unreadable

_MAX_EXPANSION = 8_000_000  # characters and tokens: some seconds; a thesis expands to about 3 MB
_MAX_FRAMES = 500  # macros inside of each other; people nest some ten
_MAX_BRACKET = 300  # tokens of an optional argument, else it is a bracket in the text


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_CONDITIONALS = _words(
    "if ifcat ifx ifnum ifdim ifodd ifvmode ifhmode ifmmode ifinner ifvoid ifhbox ifvbox ifeof "
    "iftrue iffalse ifcase ifdefined ifcsname ifpdf iffontchar ifxetex ifluatex"
)
_DEFINING = _words(
    "newcommand renewcommand providecommand DeclareRobustCommand def gdef edef xdef let newif "
    "DeclareMathOperator DeclarePairedDelimiter newenvironment renewenvironment"
)
_BODY = "\\begin{document}"


@dataclass(frozen=True, slots=True)
class Macro:
    """A command of the author's: its body, with ``#1`` to ``#9`` where the arguments go."""

    num_arguments: int
    default: tuple[str, ...] | None  # of the first argument, which is then optional
    body: tuple[str, ...]


class Stream:
    """Tokens still to be read, and the macros that were defined so far."""

    def __init__(self, find: Callable[[str], tuple[str, str] | None], reserved: Iterable[str]):
        self.macros: dict[str, Macro] = {}
        self.frames: list[Iterator[str]] = []
        self._find = find  # a file's own name and text, by the name that a command gives
        self._reserved = frozenset(reserved)  # commands whose meaning an author cannot change
        self._open: set[str] = set()  # files that are being read
        self._flags: dict[str, bool] = {}
        self._aliases: dict[str, list[str]] = {}  # names that ``\let`` gave to what is no macro yet
        self._num_branches = 0  # conditionals whose ``\fi`` is still to come
        self._spent = 0

    # Reading -------------------------------------------------------------------------------------

    def push(self, some: Iterable[str]) -> None:
        """Read ``some`` first. Raises Unreadable where macros nest absurdly."""
        if len(self.frames) >= _MAX_FRAMES:
            raise Unreadable("macros nested too deep")
        self.frames.append(iter(some))

    def insert(self, some: Sequence[str]) -> None:
        """Read ``some`` first, which the source has not here, so that it counts as expansion."""
        self._charge(1 + len(some) + sum(map(len, some)))
        self.push(some)

    def push_text(self, text: str) -> None:
        """Read the rest of a run of plain text first."""
        if text[:1] == " ":
            self.push((" ", text[1:]) if len(text) > 1 else (" ",))
        elif text:
            self.push((text,))

    def next(self) -> str | None:
        """The next token, not expanded; None at the end."""
        while self.frames:
            for token in self.frames[-1]:
                return token
            self.frames.pop()
        return None

    def next_visible(self) -> str | None:
        """The next token that is not white space."""
        while (token := self.next()) is not None and token.isspace():
            pass
        return token

    def argument(self) -> list[str]:
        """Tokens of a mandatory argument, without its braces."""
        token = self.next_visible()
        if token is None:
            return []
        if token == "{":
            return self.group()
        if token == "}":
            self.push((token,))
            return []
        if token[0] in "\\\x00" or len(token) == 1:
            return [token]
        self.push_text(token[1:])
        return [token[0]]

    def group(self) -> list[str]:
        """Tokens up to the brace that closes the group that was just opened."""
        found: list[str] = []
        depth = 1
        while (token := self.next()) is not None:
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if not depth:
                    break
            found.append(token)
        return found

    def optional(self) -> list[str] | None:
        """Tokens of an optional argument, without its brackets; None where there is none."""
        token = self.next()
        blank = token if token is not None and token.isspace() and token.count("\n") < 2 else None
        if blank is not None:
            token = self.next()
        if token != "[":
            self._unread([t for t in (blank, token) if t is not None])
            return None
        found: list[str] = []
        depth = 0
        while (token := self.next()) is not None and len(found) < _MAX_BRACKET:
            if token == "]" and depth == 0:
                return found
            depth += (token == "{") - (token == "}")
            if depth < 0 or token.count("\n") > 1:
                break
            found.append(token)
        rest = [] if token is None else [token]
        self._unread(["[", *found, *rest])
        return None

    def star(self) -> bool:
        """Whether a star follows, which is then read."""
        token = self.next()
        if token is not None and token[0] == "*":
            self.push_text(token[1:].lstrip())
            return True
        if token is not None:
            self.push((token,))
        return False

    def word(self) -> str:
        r"""The name after ``\input``, in braces or up to white space."""
        token = self.next_visible()
        if token == "{":
            return "".join(self.group()).strip()
        found = ""
        while token is not None:
            head, blank, rest = token.partition(" ")
            if token.isspace() or token[0] in "\\{}":
                self.push((token,))
                break
            found += head
            if blank:
                self.push_text(rest)
                break
            token = self.next()
        return found.strip()

    def include(self, name: str) -> bool:
        """Read the file ``name`` next; False where there is none, or where it is being read."""
        found = self._find(name)
        if found is None or found[0] in self._open:
            return False
        path, text = found
        if _BODY in text:  # it can be run alone too
            text = text.partition(_BODY)[2].partition("\\end{document}")[0]
        self.push_file(path, text)
        return True

    def push_file(self, path: str, text: str) -> None:
        """Read ``text`` first, which the file at ``path`` holds."""
        self._charge(len(text))
        self.push(self._file(path, text))

    def _file(self, name: str, text: str) -> Iterator[str]:
        self._open.add(name)
        try:
            yield from tokens(text)
        finally:
            self._open.discard(name)

    def _unread(self, some: list[str]) -> None:
        if some:
            self._charge(len(some))
            self.push(some)

    def _charge(self, cost: int) -> None:
        self._spent += cost
        if self._spent > _MAX_EXPANSION:
            raise Unreadable("macros expand too far")

    def push_environment(self, side: str) -> None:
        r"""Read ``\begin`` or ``\end`` first, with the name that follows as an argument."""
        name = "".join(self.argument()).strip()
        self.push((f"\\{side}{{{name}}}",))

    # Macros --------------------------------------------------------------------------------------

    def expand(self, name: str) -> bool:
        """Push the body of the macro ``name`` with its arguments; False where there is none."""
        macro = self.macros.get(name)
        if macro is None:
            return False
        arguments: list[list[str]] = []
        if macro.default is not None:
            given = self.optional()
            arguments.append(list(macro.default) if given is None else given)
        while len(arguments) < macro.num_arguments:
            arguments.append(self.argument())
        body: list[str] = []
        for token in macro.body:
            if token[0] != "#":
                body.append(token)
            elif token[1:2] == "#":
                body.append(token[1:])
            elif token[1:].isdigit() and int(token[1:]) <= len(arguments):
                body += arguments[int(token[1:]) - 1]
                if len(body) > _MAX_EXPANSION:
                    break
        self.insert(body)
        return True

    def define(self, command: str) -> bool:
        """Read the definition that ``command`` begins; False where it begins none."""
        if command not in _DEFINING:
            return False
        match command:
            case "def" | "gdef" | "edef" | "xdef":
                self._define_plain()
            case "let":
                self._alias()
            case "newif":
                flag = name_of("".join(self.argument()) or "\\").removeprefix("if")
                self._flags[flag] = False
            case "DeclareMathOperator":
                star = "*" if self.star() else ""
                name, body = self.argument(), self.argument()
                self._keep(name, 0, None, [f"\\operatorname{star}", "{", *body, "}"])
            case "DeclarePairedDelimiter":
                name, left, right = self.argument(), self.argument(), self.argument()
                self._keep(name, 1, None, [*left, " ", "#1", " ", *right])
            case "newenvironment" | "renewenvironment":
                self.star()
                name = ["\\begin{" + "".join(self.argument()).strip() + "}"]
                number, default = self._parameters()
                begin, end = self.argument(), self.argument()
                self._keep(name, number, default, begin)
                self._keep(["\\end{" + name[0][len("\\begin{") :]], 0, None, end)
            case _:
                self.star()
                name = self.argument()
                number, default = self._parameters()
                body = self.argument()
                if command != "providecommand" or name_of("".join(name)) not in self.macros:
                    self._keep(name, number, default, body)
        return True

    def _parameters(self) -> tuple[int | None, list[str] | None]:
        number, default = self.optional(), None
        if number is None:
            return 0, None
        default = self.optional()
        said = "".join(number).strip()
        return (int(said) if re.fullmatch("[0-9]", said) else None), default

    def _define_plain(self) -> None:
        r"""``\def\name#1#2{body}``; other texts between the parameters are no simple macro."""
        name = self.next_visible() or ""
        number: int | None = 0
        while (token := self.next()) is not None and token != "{":
            if number is not None and token == f"#{number + 1}":
                number += 1
            elif token == "}":  # no definition at all
                self.push((token,))
                return
            else:
                number = None
        self._keep([name], number, None, self.group())

    def _alias(self) -> None:
        name, target = self.next_visible() or "", self.next_visible() or ""
        if target[0:1] == "=":
            target = target[1:].strip() or self.next_visible() or ""
        old = self.macros.get(name_of(target)) if target[0:1] == "\\" else None
        if old is not None:
            self._keep([name], old.num_arguments, old.default, old.body)
        elif target and target.rstrip() != name.rstrip():
            self._keep([name], 0, None, [target])
            self._aliases.setdefault(name_of(target), []).append(name_of(name))

    def _keep(
        self,
        name: list[str],
        number: int | None,
        default: Iterable[str] | None,
        body: Iterable[str],
    ) -> None:
        word = "".join(name).strip()
        short = name_of(word) if word[0:1] == "\\" else ""
        held = tuple(body)
        internal = any(t[0] == "\\" and "@" in t for t in held)  # of a style file: not for us
        endless = any(t[0] == "\\" and name_of(t) == short for t in held)
        if not short or short in self._reserved or number is None or internal or endless:
            return
        for alias in self._aliases.pop(short, ()):  # which means what ``short`` meant until now
            self.macros.pop(alias, None)
        self.macros[short] = Macro(number, None if default is None else tuple(default), held)

    # Conditionals --------------------------------------------------------------------------------

    def branch(self, name: str, in_formula: bool) -> bool:
        r"""Take a branch where ``name`` is ``\if...``, ``\else`` or ``\fi``; else False.

        What cannot be known without running TeX counts as false.
        """
        if name in ("fi", "else"):
            if self._num_branches:
                self._num_branches -= 1
                if name == "else":
                    self._skip(to_else=False)
            return True
        flag = name.removeprefix("if")
        if name != flag and flag in self._flags:
            holds = self._flags[flag]
        elif _is_conditional(name):
            holds = name == "iftrue" or (name == "ifmmode" and in_formula)
        else:
            return name.endswith(("true", "false")) and self._set_flag(name)
        if holds or self._skip(to_else=True):
            self._num_branches += 1
        return True

    def _set_flag(self, name: str) -> bool:
        flag = name.removesuffix("true").removesuffix("false")
        if flag not in self._flags:
            return False
        self._flags[flag] = name.endswith("true")
        return True

    def _skip(self, to_else: bool) -> bool:
        r"""Read up to the ``\fi`` that belongs here; True where an ``\else`` comes first."""
        depth = 0
        while (token := self.next()) is not None:
            if token[0] != "\\":
                continue
            name = name_of(token)
            if name == "fi":
                if not depth:
                    return False
                depth -= 1
            elif name == "else":
                if to_else and not depth:
                    return True
            elif _is_conditional(name) or (name[:2] == "if" and name[2:] in self._flags):
                depth += 1
        return False


def _is_conditional(name: str) -> bool:
    return name in _CONDITIONALS or name.startswith(("if@", "ifCLASS"))
