r"""LaTeX source to tokens, comments left out.

A token is a string: a control sequence with the white space that it eats, a run of plain text, one
special character, ``\begin{name}``, or ``RAW`` and what stands verbatim.
"""

import re
from collections.abc import Iterator

RAW = "\x00"  # begins a token of verbatim text; sources are stripped of it
BLOCK, INLINE = RAW + "b", RAW + "i"

_TOKEN = re.compile(
    r"""
      \\(?:begin|end)[ \t]*+\{[ \t]*+(?P<env>[^{}\\\#\s]{1,60}+)[ \t]*+\}
    | \\(?:verb\*?|lstinline)(?P<mark>[^A-Za-z\s*{\[])(?P<verb>[^\n]{0,500}?)(?P=mark)
    | \\(?:url|path|nolinkurl|href)[ \t]*+\{(?P<url>[^{}\n]{0,2000}+)\}
    | \\(?:[A-Za-z]++(?:@[A-Za-z@]*+)?+|@[A-Za-z@]++)[ \t]*+(?:\n(?![ \t]*+\n)[ \t]*+)?+
    | \\.
    | %[^\n]*+(?:\n[ \t]*+)?+
    | \s++
    | \$\$?
    | \#++[1-9]?
    | [{}~&\[\]^_]
    | (?:[^\\{}$%~&\#^_\[\]\s]++[ ]?+)++
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_VERBATIM = frozenset(
    ("verbatim", "verbatim*", "Verbatim", "BVerbatim", "alltt", "lstlisting", "minted", "code")
)
_UNREAD = frozenset(("comment", "CCSXML", "filecontents", "filecontents*"))
_OPTIONS = re.compile(r"\s*\[[^\]\n]{0,500}\]")
_LANGUAGE = re.compile(r"\s*\{[^}\n]{0,50}\}")


def tokens(text: str) -> Iterator[str]:
    """Tokens of LaTeX source, comments left out. Joined again they are the source without them."""
    endless: set[str] = set()  # environments that were looked for in vain: once is enough
    at = 0
    while at < len(text):
        for match in _TOKEN.finditer(text, at):
            token = match[0]
            group = match.lastgroup
            if group is None:
                if token[0] != "%":
                    yield token
                elif text[match.end() : match.end() + 1] == "\n":
                    yield "\n\n"  # an empty line after a comment ends the paragraph all the same
            elif group == "env":
                name = match["env"]
                if token[1] == "b" and (name in _VERBATIM or name in _UNREAD):
                    end = -1 if name in endless else text.find(f"\\end{{{name}}}", match.end())
                    if end >= 0:
                        if name in _VERBATIM:
                            yield BLOCK + _code(name, text[match.end() : end])
                        at = end + len(name) + len("\\end{}")
                        break
                    endless.add(name)
                yield f"\\{'begin' if token[1] == 'b' else 'end'}{{{name}}}"
            elif group == "verb":
                yield INLINE + match["verb"]
            elif not token.startswith("\\href"):  # the address of a link; its text follows
                yield INLINE + match["url"]
        else:
            return


def _code(name: str, code: str) -> str:
    """A listing without the options and the language that stand before its first line."""
    if name not in ("verbatim", "verbatim*", "alltt"):
        code = _OPTIONS.sub("", code, count=1) if _OPTIONS.match(code) else code
        if name == "minted" and (language := _LANGUAGE.match(code)):
            code = code[language.end() :]
    return code.strip("\n").rstrip()


def name_of(token: str) -> str:
    r"""``emph`` of ``\emph``, without the white space that it eats."""
    return token[1:].rstrip() or token[1:]
