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
from datalake.transforms.latex_formulas import Formula
from datalake.transforms.latex_macros import Stream
from datalake.transforms.latex_page import CITED, Page
from datalake.transforms.latex_tokens import BLOCK, RAW, name_of, tokens
from datalake.transforms.normalise import normalise
from datalake.transforms.text import Text, Unreadable

_MAX_ENVIRONMENTS = 1000

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
    """One line of LaTeX, as titles are in arXiv's metadata, where a bare ``%`` means itself."""
    latex = re.sub(r"(?<!\\)%", r"\\%", latex)
    return " ".join(_Reader(source, in_preamble=False).read("", latex).split())


@dataclass(slots=True)
class _Environment:
    name: str
    height: int  # of the page
    num_groups: int
    item: int = 0  # number of the last item


class _Reader:
    def __init__(self, source: LatexSource, in_preamble: bool = True) -> None:
        self.title = ""
        self._source = source
        self._stream = Stream(source.find, _OURS)
        self._page = Page(in_preamble)
        self._formula = Formula(self._stream, self._page)
        self._groups: list[Callable[[], None] | None] = []
        self._environments: list[_Environment] = []
        self._open: Counter[str] = Counter()
        self._theorems = {name: [printed] for name, printed in commands.NAMED.items()}
        self._commands: dict[str, Callable[[], None]] = {
            "par": self._page.paragraph,
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
            "ensuremath": self._formula.begin_argument,
            "\\": self._line_end,
            "newline": self._line_end,
            "tabularnewline": self._line_end,
            "(": lambda: self._formula.begin("\\(", "\\)"),
            "[": lambda: self._formula.begin("\\[", "\\]"),
            "begin": lambda: self._stream.push_environment("begin"),
            "end": lambda: self._stream.push_environment("end"),
        }

    def read(self, path: str, text: str) -> str:
        """Text of the file at ``path`` and of what it includes: paragraphs between empty lines."""
        frames = self._stream.frames
        self._stream.push_file(path, text)
        while frames:
            frame = frames[-1]
            for token in frame:
                if self._formula.is_open:
                    self._formula.take(token)
                else:
                    self._in_text(token)
                if not frames or frames[-1] is not frame:
                    break
            else:
                frames.pop()
        if self._formula.is_open:
            self._formula.break_off()
        return self._page.finish()

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
            if self._page.is_read:
                self._formula.begin(token, token)
        elif first.isspace():
            if token.count("\n") > 1:
                self._page.paragraph()
            else:
                self._page.write(" ")
        elif first == "~":
            self._page.write(" ")
        elif first == "&":
            self._page.write(" | " if self._inside(commands.TABULARS) else " ")
        elif first == RAW:
            held = self._page.hold(token[2:])
            self._page.write(f"\n\n{held}\n\n" if token.startswith(BLOCK) else held)
        else:
            if "-" in token or "`" in token or "'" in token:
                for written, printed in _DASHES:
                    token = token.replace(written, printed)
            self._page.write(token)

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
            self._page.write(symbol)
        elif name in commands.ACCENTS:
            self._accent(commands.ACCENTS[name])
        elif name in commands.DIMENSIONED:
            self._dimension()
        elif not stream.branch(name, in_formula=False) and token[-1].isalpha():
            self._options_at_once()

    def _line_end(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._page.write("\n")

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
            self._page.write(CITED)
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
            self._page.write(letter[0] + mark + letter[1:])

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
                self._page.write(" ")

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
        self._page.open(read=True)
        height = self._page.height

        def finish() -> None:
            if self._page.height == height:
                done(self._page.close())

        self._then(finish)

    def _heading(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._page.paragraph()
        self._then(self._page.paragraph)

    def _run_in(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._page.paragraph()
        self._then(lambda: self._page.write(" "))

    def _title(self) -> None:
        self._stream.optional()
        self._aside(self._keep_title)

    def _keep_title(self, title: str) -> None:
        self.title = self.title or " ".join(self._page.tidy(title).split())

    def _abstract(self) -> None:
        if self._page.has_begun:
            self._page.heading("Abstract")
            self._then(self._page.paragraph)
        else:  # in the preamble of some classes
            self._aside(lambda text: self._page.note(f"Abstract\n\n{text}"))

    def _caption_of(self) -> None:
        self._stream.argument()
        self._caption()

    def _caption(self) -> None:
        self._stream.star()
        self._stream.optional()
        self._aside(self._page.caption)

    def _footnote(self) -> None:
        self._stream.optional()
        if self._page.is_read:
            self._aside(self._page.note)
        else:
            self._then(lambda: None)

    def _item(self) -> None:
        label = self._stream.optional()
        here = next((e for e in reversed(self._environments) if e.name in commands.LISTS), None)
        if label is not None:
            self._page.write("\n")
            self._stream.push([*label, " "])
        elif here is not None and here.name.startswith("enum"):
            here.item += 1
            self._page.write(f"\n{here.item}. ")
        else:
            self._page.write("\n- ")

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

    def _begin(self, name: str) -> None:
        if name == "document":
            if not self._page.has_begun:
                self._groups.clear()
                self._page.begin()
            return
        if name in commands.FORMULAS:
            if self._page.has_begun:
                self._formula.begin(f"\\begin{{{name}}}", f"\\end{{{name}}}")
            return
        if name in commands.UNREAD:
            self._skip(name)
            return
        if len(self._environments) >= _MAX_ENVIRONMENTS:
            raise Unreadable("environments nested too deep")
        here = _Environment(name, self._page.height, len(self._groups))
        self._environments.append(here)
        self._open[name] += 1
        options = self._stream.optional()
        for _ in range(commands.ENVIRONMENT_ARGUMENTS.get(name, 0)):
            self._stream.argument()
        if name in commands.FLOATS:
            self._page.open(read=False)
        elif name in self._theorems:
            self._page.write("\n\n")
            more = [" ", "(", *options, ")"] if options else []
            self._stream.insert([*self._theorems[name], *more, ".", " "])
        elif name == "abstract":
            self._page.heading("Abstract")
        elif name not in ("small", "sloppypar", "footnotesize"):
            self._page.write("\n\n")

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
            self._page.join_to(here.height)
            self._page.write("\n\n")
            if here.name == name:
                return

    def _skip(self, name: str) -> None:
        depth = 1
        begin, end = f"\\begin{{{name}}}", f"\\end{{{name}}}"
        while (token := self._stream.next()) is not None:
            depth += (token == begin) - (token == end)
            if not depth or token == "\\end{document}":
                return


def _measure(token: str) -> int:
    match = _DIMENSION.match(token)
    return match.end() if match else 0
