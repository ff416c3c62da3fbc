r"""LaTeX sources to text: what a reader of the paper sees, with formulas left as LaTeX.

Kept are title, abstract, headings, paragraphs, lists, footnotes, captions, listings and rows of
tables outside of floats; theorems keep their name. Macros of the author's are expanded, in formulas
too, so that the same thing is written the same way in all papers. Left out are preamble, authors,
figures and tables, bibliography and comments. Citations and references are left out with the
brackets that hold nothing else, since their numbers are not in the source; where a citation is part
of its sentence, and the bibliography says authors and year, those are written. Quotes become plain
ones, dashes Unicode, accents letters.

The reader walks over the tokens once, with a stack of groups and one of places to write to.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from datalake.transforms import latex_commands as commands
from datalake.transforms.latex_bundle import LatexSource, clean, open_bundle
from datalake.transforms.latex_macros import BLOCK, RAW, Stream, name_of, tokens
from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text, Unreadable

_MAX_SINKS = 100  # footnotes in captions in floats ... people nest three
_MAX_ENVIRONMENTS = 1000
_CITED = "\x01"  # where a citation stood, until brackets around it are gone
_HELD = "\x02"  # begins and ends the number of a formula or listing that stays as it is

_OURS = (  # commands whose meaning an author cannot change
    commands.DROPPED.keys()
    | commands.PARTLY_KEPT.keys()
    | commands.CITATIONS
    | commands.HEADINGS
    | commands.RUN_IN
    | commands.STRUCTURE
    | {
        f"{side}{{{name}}}"
        for side in ("begin", "end")
        for name in commands.FORMULAS
        | commands.UNREAD
        | commands.FLOATS
        | commands.LISTS
        | commands.TABULARS
        | commands.NAMED.keys()
        | {"document", "abstract"}
    }
)
_DROPPED = commands.DROPPED | commands.PARTLY_KEPT
_DIMENSION = re.compile(
    r"\s*=?\s*[-+]?[\d.]*\s*(?:pt|in|cm|mm|em|ex|pc|sp|mu|true\w\w)?"
    r"(?:\s*(?:plus|minus)\s*[-+]?[\d.]*\s*(?:pt|in|cm|mm|em|ex|fill?l?)?)*"
)
_DASHES = (("---", "—"), ("--", "–"), ("``", '"'), ("''", '"'), ("`", "'"))
_CITED_LIST = re.compile(
    f"{_CITED}(?:[ \n]*+(?:,|;|&|–|and)?+[ \n]*+{_CITED})++"  # several in a row are one
)
_BRACKETS = re.compile(f"[ ]?[(\\[][ \n,;{_CITED}]*+[)\\]]")
_FORMULA = re.compile(f"{_HELD}(\\d+){_HELD}")


def read_latex(bundle: bytes, title: str | None = None) -> Text:
    """Text of the paper in ``bundle``, under ``title`` or else under the one that it gives itself.

    Raises Unreadable for a bundle without LaTeX, without a main file or without text, for macros
    that expand or nest absurdly, and for archives beyond ``latex_bundle.BOUNDS``.
    """
    source = open_bundle(bundle)
    reader = _Reader(source)
    body = reader.read(source.main, source.files[source.main])
    if not body:
        raise Unreadable("no text")
    heading = _fragment(clean(title), source) if title else reader.title
    text = f"{heading}\n\n{body}" if heading else body
    return Text(text=normalise(text), title=normalise(heading), encoding=source.encoding)


def _fragment(latex: str, source: LatexSource) -> str:
    """One line of LaTeX, as titles are in arXiv's metadata."""
    return " ".join(_Reader(source, in_preamble=False).read("", latex).split())


@dataclass(slots=True)
class _Environment:
    name: str
    num_sinks: int
    num_groups: int
    end: str = ""  # what follows it
    item: int = 0  # number of the last item


class _Discarded(list[str]):
    """A place to write what nobody reads."""


class _Reader:
    def __init__(self, source: LatexSource, in_preamble: bool = True) -> None:
        self.title = ""
        self._source = source
        self._stream = Stream(source.find, _OURS)
        self._in_preamble = in_preamble
        self._sinks: list[list[str]] = [_Discarded() if in_preamble else []]
        self._groups: list[Callable[[], None] | None] = []
        self._environments: list[_Environment] = []
        self._open: Counter[str] = Counter()
        self._theorems = {name: [printed] for name, printed in commands.NAMED.items()}
        self._notes: list[str] = []  # footnotes of the paragraph
        self._held: list[str] = []  # formulas and listings
        self._formula: list[str] = []
        self._closer = ""  # token that ends the formula we are in
        self._depth = 0  # of braces in it
        self._commands: dict[str, Callable[[], None]] = {
            "par": self._paragraph,
            "input": self._input,
            "include": self._input,
            "subfile": self._input,
            "subfileinclude": self._input,
            "endinput": self._end_input,
            "usepackage": self._package,
            "RequirePackage": self._package,
            "newtheorem": self._new_theorem,
            "declaretheorem": self._declare_theorem,
            "title": self._title,
            "abstract": self._abstract,
            "caption": self._caption,
            "captionof": self._caption_of,
            "footnote": self._footnote,
            "footnotetext": self._footnote,
            "item": self._item,
            "xspace": self._xspace,
            "csname": self._skip_name,
            "ensuremath": self._ensure_math,
            "\\": self._line_end,
            "newline": self._line_end,
            "tabularnewline": self._line_end,
            "(": lambda: self._begin_formula("\\(", "\\)"),
            "[": lambda: self._begin_formula("\\[", "\\]"),
            "begin": self._begin_computed,
            "end": self._end_computed,
        }

    def read(self, path: str, text: str) -> str:
        """Text of the file at ``path`` and of what it includes: paragraphs between empty lines."""
        frames = self._stream.frames
        self._stream.push_file(path, text)
        while frames:
            frame = frames[-1]
            for token in frame:
                if self._closer:
                    self._in_formula(token)
                else:
                    self._in_text(token)
                if not frames or frames[-1] is not frame:
                    break
            else:
                frames.pop()
        if self._closer:
            self._end_formula(whole=False)
        while len(self._sinks) > 1:
            self._join_sink()
        self._paragraph()
        sink = self._sinks[0]
        return "" if isinstance(sink, _Discarded) else self._tidy("".join(sink))

    # Text ----------------------------------------------------------------------------------------

    def _in_text(self, token: str) -> None:
        first = token[0]
        if first == "\\":
            self._command(token)
        elif first == "{":
            self._groups.append(None)
        elif first == "}":
            if self._groups and (done := self._groups.pop()) is not None:
                done()
        elif first == "$":
            if not isinstance(self._sinks[-1], _Discarded):
                self._begin_formula(token, token)
        elif first.isspace():
            if token.count("\n") > 1:
                self._paragraph()
            else:
                self._write(" ")
        elif first == "~":
            self._write(" ")
        elif first == "&":
            self._write(" | " if self._inside(commands.TABULARS) else " ")
        elif first == RAW:
            held = self._hold(token[2:])
            self._write(f"\n\n{held}\n\n" if token.startswith(BLOCK) else held)
        else:
            if "-" in token or "`" in token or "'" in token:
                for written, printed in _DASHES:
                    token = token.replace(written, printed)
            self._write(token)

    def _command(self, token: str) -> None:
        name = name_of(token)
        stream = self._stream
        if stream.expand(name) or stream.define(name):
            return
        if token.startswith("\\begin{"):
            self._begin(token[len("\\begin{") : -1])
        elif token.startswith("\\end{"):
            self._end(token[len("\\end{") : -1])
        elif (handle := self._commands.get(name)) is not None:
            handle()
        elif name in commands.CITATIONS:
            self._cite(name)
        elif name in commands.HEADINGS:
            self._heading()
        elif (number := _DROPPED.get(name)) is not None:
            self._drop(number)
        elif name in commands.RUN_IN:
            self._run_in()
        elif (symbol := commands.SYMBOLS.get(name)) is not None:
            self._write(symbol)
        elif name in commands.ACCENTS:
            self._accent(commands.ACCENTS[name])
        elif name in commands.DIMENSIONED:
            self._dimension()
        elif not stream.branch(name, in_formula=False) and token[-1].isalpha():
            self._options_at_once()

    def _write(self, text: str) -> None:
        self._sinks[-1].append(text)

    def _paragraph(self) -> None:
        if self._notes and len(self._sinks) == 1:
            self._write("\n\n" + "\n\n".join(self._notes))
            self._notes.clear()
        self._write("\n\n")

    def _line_end(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._write("\n")

    def _drop(self, number: int) -> None:
        """Leave out a star, optional arguments and ``number`` others."""
        self._stream.star()
        while self._stream.optional() is not None:
            pass
        for _ in range(number):
            self._stream.argument()
            if number > 1:
                self._stream.optional()

    def _cite(self, command: str) -> None:
        self._stream.star()
        while self._stream.optional() is not None:
            pass
        keys = "".join(self._stream.argument()).split(",")
        known = [self._source.references.get(key.strip()) for key in keys]
        if command not in commands.TEXTUAL_CITATIONS or None in known:
            self._write(_CITED)
            return
        form = {"citeauthor": "{0}", "Citeauthor": "{0}", "citeyear": "{1}", "citealt": "{0} {1}"}
        spelled = form.get(command, "{0} ({1})")
        found = " and ".join(spelled.format(*one) for one in known if one)
        self._stream.insert(list(tokens(found)))

    def _options_at_once(self) -> None:
        """Leave out brackets right after a command of which nothing else is known."""
        while (token := self._stream.next()) is not None:
            self._stream.push((token,))
            if token != "[" or self._stream.optional() is None:
                return

    def _accent(self, mark: str) -> None:
        letter = ""
        for token in self._stream.argument():
            if token[0] == "\\":
                name = name_of(token)
                letter += {"i": "i", "j": "j"}.get(name) or commands.SYMBOLS.get(name, "")
            elif token not in ("{", "}", "$"):
                letter += token
        if letter.strip():
            self._write(letter[0] + mark + letter[1:])

    def _dimension(self) -> None:
        token = self._stream.next()
        if token is not None:
            if token[0] in "\\{}$":
                self._stream.push((token,))
            elif not token.isspace():
                self._stream.push_text(token[_measure(token) :])

    def _skip_name(self) -> None:
        while (token := self._stream.next()) is not None and name_of(token) != "endcsname":
            pass

    def _xspace(self) -> None:
        token = self._stream.next()
        if token is not None:
            self._stream.push((token,))
            if token[0].isalnum() or token[0] in "($\\" + RAW:
                self._write(" ")

    # Arguments that are text ---------------------------------------------------------------------

    def _then(self, done: Callable[[], None]) -> None:
        """Read the next argument in place, and then do ``done``."""
        token = self._stream.next_visible()
        if token is not None and token != "{":
            self._stream.push(("}",))
            self._stream.push((token,))
        self._groups.append(done)

    def _aside(self, done: Callable[[str], None]) -> None:
        """Read the next argument to a place of its own, and give the text to ``done``."""
        self._push_sink([])
        height = len(self._sinks)

        def finish() -> None:
            if len(self._sinks) == height:
                done("".join(self._sinks.pop()).strip())

        self._then(finish)

    def _push_sink(self, sink: list[str]) -> None:
        if len(self._sinks) >= _MAX_SINKS:
            raise Unreadable("environments nested too deep")
        self._sinks.append(sink)

    def _join_sink(self) -> None:
        """Leave a place that was not closed, and keep what was written there."""
        sink = self._sinks.pop()
        if not isinstance(sink, _Discarded):
            self._sinks[-1] += sink

    def _heading(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._paragraph()
        self._then(self._paragraph)

    def _run_in(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._paragraph()
        self._then(lambda: self._write(" "))

    def _title(self) -> None:
        self._stream.optional()
        self._aside(self._keep_title)

    def _keep_title(self, title: str) -> None:
        self.title = self.title or " ".join(self._tidy(title).split())

    def _abstract(self) -> None:
        if not isinstance(self._sinks[0], _Discarded):
            self._heading_of("Abstract")
            self._then(self._paragraph)
        else:  # in the preamble of some classes
            self._aside(lambda text: self._notes.append(f"Abstract\n\n{text}"))

    def _heading_of(self, name: str) -> None:
        self._write(f"\n\n{name}\n\n")

    def _caption_of(self) -> None:
        self._stream.argument()
        self._caption()

    def _caption(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._aside(self._keep_caption)

    def _keep_caption(self, caption: str) -> None:
        for sink in reversed(self._sinks):
            if not isinstance(sink, _Discarded):
                sink.append(f"\n\n{caption}\n\n")
                return

    def _footnote(self) -> None:
        self._stream.optional()
        if isinstance(self._sinks[-1], _Discarded):
            self._then(lambda: None)
        else:
            self._aside(self._notes.append)

    def _item(self) -> None:
        label = self._stream.optional()
        here = next((e for e in self._environments[::-1] if e.name in commands.LISTS), None)
        if label is not None:
            self._write("\n")
            self._stream.push([*label, " "])
        elif here is not None and here.name.startswith("enum"):
            here.item += 1
            self._write(f"\n{here.item}. ")
        else:
            self._write("\n- ")

    def _ensure_math(self) -> None:
        self._begin_formula("$", "}")
        token = self._stream.next_visible()
        if token is not None and token != "{":
            self._stream.push(("}",))
            self._stream.push((token,))

    # Files ---------------------------------------------------------------------------------------

    def _input(self) -> None:
        self._stream.include(self._stream.word())

    def _end_input(self) -> None:
        if len(self._stream.frames) > 1:
            self._stream.frames.pop()

    def _package(self) -> None:
        self._stream.optional()
        for name in "".join(self._stream.argument()).split(","):
            self._stream.include(f"{name.strip()}.sty")

    def _new_theorem(self) -> None:
        self._stream.star()
        name = "".join(self._stream.argument()).strip()
        self._stream.optional()
        printed = self._stream.argument()
        self._stream.optional()
        if name and printed:
            self._theorems[name] = printed

    def _declare_theorem(self) -> None:
        options = "".join(self._stream.optional() or ())
        said = re.search(r"(?:name|title)\s*=\s*\{?([^,{}]+)", options)
        for name in "".join(self._stream.argument()).split(","):
            printed = said[1].strip() if said else name.strip().capitalize()
            self._theorems[name.strip()] = list(tokens(printed))

    # Environments --------------------------------------------------------------------------------

    def _inside(self, names: frozenset[str]) -> bool:
        return bool(self._environments) and self._environments[-1].name in names

    def _begin_computed(self) -> None:
        self._stream.push(("\\begin{" + "".join(self._stream.argument()).strip() + "}",))

    def _end_computed(self) -> None:
        self._stream.push(("\\end{" + "".join(self._stream.argument()).strip() + "}",))

    def _begin(self, name: str) -> None:
        if name == "document":
            if self._in_preamble:
                self._in_preamble = False
                self._sinks = [[]]
                self._groups.clear()
                self._paragraph()
            return
        if name in commands.FORMULAS:
            if not self._in_preamble:
                self._begin_formula(f"\\begin{{{name}}}", f"\\end{{{name}}}")
            return
        if name in commands.UNREAD:
            self._skip(name)
            return
        if len(self._environments) >= _MAX_ENVIRONMENTS:
            raise Unreadable("environments nested too deep")
        here = _Environment(name, len(self._sinks), len(self._groups), end="\n\n")
        self._environments.append(here)
        self._open[name] += 1
        options = self._stream.optional()
        for _ in range(commands.ENVIRONMENT_ARGUMENTS.get(name, 0)):
            self._stream.argument()
        if name in commands.FLOATS:
            self._push_sink(_Discarded())
        elif name in self._theorems:
            self._write("\n\n")
            more = [" ", "(", *options, ")"] if options else []
            self._stream.insert([*self._theorems[name], *more, ".", " "])
        elif name == "abstract":
            self._heading_of("Abstract")
        elif name not in ("small", "sloppypar", "footnotesize"):
            self._write("\n\n")

    def _end(self, name: str) -> None:
        if name == "document":
            self._stream.frames.clear()
            return
        if not self._open[name]:
            return
        while self._environments:
            here = self._environments.pop()
            self._open[here.name] -= 1
            del self._groups[here.num_groups :]
            while len(self._sinks) > max(here.num_sinks, 1):
                self._join_sink()
            self._write(here.end)
            if here.name == name:
                return

    def _skip(self, name: str) -> None:
        depth = 1
        begin, end = f"\\begin{{{name}}}", f"\\end{{{name}}}"
        while (token := self._stream.next()) is not None:
            depth += (token == begin) - (token == end)
            if not depth or token == "\\end{document}":
                return

    # Formulas ------------------------------------------------------------------------------------

    def _begin_formula(self, opener: str, closer: str) -> None:
        self._formula = [opener]
        self._closer = closer
        self._depth = 0

    def _in_formula(self, token: str) -> None:
        first = token[0]
        if token.rstrip() == self._closer and (not self._depth or first == "\\"):
            self._end_formula(whole=True)
        elif first == "\\":
            self._command_in_formula(token)
        elif first == "$" and not self._depth and self._closer[0] == "$":
            if token == "$$":  # the end of one formula and the beginning of the next
                self._end_formula(whole=True)
                self._stream.push(("$",))
            elif (following := self._stream.next()) is not None:  # half of a display's end
                self._end_formula(whole=True)
                if following != "$":
                    self._stream.push((following,))
        elif first.isspace() and token.count("\n") > 1:
            if self._closer in ("$", "\\)", "}"):  # TeX stops here too
                self._end_formula(whole=False)
                self._paragraph()
            else:
                self._formula.append("\n")
        else:
            if first == "{":
                self._depth += 1
            elif first == "}":
                self._depth -= 1 if self._depth else 0
            elif first == RAW:
                token = token[2:]
            elif first.isalnum() and _ends_in_word(self._formula[-1]):
                token = f" {token}"  # TeX needs none after a macro, the text of its body does
            self._formula.append(token)

    def _command_in_formula(self, token: str) -> None:
        name = name_of(token)
        stream = self._stream
        if stream.expand(name):
            return
        if token == "\\end{document}":
            self._end_formula(whole=False)
            self._end("document")
        elif name in ("label", "nonumber", "notag", "ensuremath"):
            if name == "label":
                stream.argument()
        elif name in ("begin", "end"):
            self._begin_computed() if name == "begin" else self._end_computed()
        elif name.isspace():  # ``\ `` and ``~`` are the same; one of them can be lost at an end
            self._formula.append("~")
        elif name == "iff" or not (stream.branch(name, in_formula=True) or stream.define(name)):
            self._formula.append(token)

    def _end_formula(self, whole: bool) -> None:
        closer = {"}": "$"}.get(self._closer, self._closer) if whole else ""
        formula = "".join(self._formula)
        is_inline = self._closer in ("$", "\\)", "}") or self._closer == "\\end{math}"
        self._closer = ""
        if is_inline:
            body = " ".join(formula.split())
            self._write(self._hold(f"{body}{closer}") if whole else body)
        else:
            if closer.startswith("\\end"):
                closer = f"\n{closer}"
            lines = [" ".join(line.split()) for line in f"{formula}{closer}".split("\n")]
            held = self._hold("\n".join(line for line in lines if line))
            self._write(f"\n{held}\n")

    # Together ------------------------------------------------------------------------------------

    def _hold(self, text: str) -> str:
        self._held.append(text)
        return f"{_HELD}{len(self._held) - 1}{_HELD}"

    def _tidy(self, text: str) -> str:
        text = _CITED_LIST.sub(_CITED, re.sub("[ \t]+", " ", text))
        text = _BRACKETS.sub(lambda m: "" if _CITED in m[0] else m[0], text)
        text = re.sub(f" ?{_CITED}(?=[^\\W_])", " ", text)
        text = re.sub(f"(?m)^{_CITED}[,;]?| ?{_CITED}", "", text)
        text = re.sub("(?m)^ | $", "", re.sub("[ ]+", " ", text))
        text = re.sub("\n{3,}", "\n\n", text).strip()
        return _FORMULA.sub(lambda m: self._held[int(m[1])], text)


def _measure(token: str) -> int:
    match = _DIMENSION.match(token)
    return match.end() if match else 0


def _ends_in_word(token: str) -> bool:
    return token[:1] == "\\" and token[-1].isalpha()
