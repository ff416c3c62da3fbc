r"""What LaTeX's commands and environments mean for text: signs, arguments, headings, lists.

Of a command that is not named here or defined by the author, the name is left out and what stands
in its braces is kept: that is right for ``\emph`` and its like.
"""


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


SYMBOLS = {
    "ss": "ß", "SS": "SS", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ",
    "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "i": "ı", "j": "ȷ", "dh": "ð", "DH": "Ð",
    "th": "þ", "TH": "Þ", "dj": "đ", "DJ": "Đ", "ng": "ŋ", "NG": "Ŋ",
    "S": "§", "P": "¶", "dag": "†", "ddag": "‡", "dagger": "†", "ddagger": "‡",
    "copyright": "©", "textcopyright": "©", "textregistered": "®", "texttrademark": "™",
    "pounds": "£", "textsterling": "£", "euro": "€", "texteuro": "€", "EUR": "€", "yen": "¥",
    "ldots": "...", "dots": "...", "textellipsis": "...",
    "textendash": "–", "textemdash": "—", "textquoteleft": "'", "textquoteright": "'",
    "textquotedblleft": '"', "textquotedblright": '"', "textquotesingle": "'",
    "textquotedbl": '"', "dq": '"', "lq": "'", "rq": "'", "guillemotleft": "«",
    "guillemotright": "»", "og": "«", "fg": "»", "quotedblbase": "„", "quotesinglbase": "‚",
    "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textunderscore": "_",
    "textbar": "|", "textless": "<", "textgreater": ">", "textbraceleft": "{",
    "textbraceright": "}", "textdollar": "$", "textdegree": "°", "degree": "°",
    "textcelsius": "°C", "textmu": "µ", "textohm": "Ω", "texttimes": "×", "textpm": "±",
    "textbullet": "•", "textperiodcentered": "·", "textasteriskcentered": "*",
    "textordmasculine": "º", "textordfeminine": "ª", "textonehalf": "½", "textnumero": "№",
    "LaTeX": "LaTeX", "LaTeXe": "LaTeX2e", "TeX": "TeX", "BibTeX": "BibTeX",
    "slash": "/", "quad": " ", "qquad": " ", "space": " ", "enspace": " ", "thinspace": " ",
    "&": "&", "%": "%", "$": "$", "#": "#", "_": "_", "{": "{", "}": "}",
    " ": " ", "\n": " ", "\t": " ", ",": " ", ";": " ", ":": " ", "!": "", "-": "", "/": "",
    "@": "", "|": "‖", ">": " ", "<": "",
}  # fmt: skip

# Combining characters; Unicode form NFC joins them with the letter before.
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304",
    ".": "\u0307", "u": "\u0306", "v": "\u030c", "H": "\u030b", "c": "\u0327", "k": "\u0328",
    "r": "\u030a", "d": "\u0323", "b": "\u0331", "t": "\u0361",
}  # fmt: skip

# How many arguments in braces are read and left out; optional ones and a star go with them.
DROPPED = {
    name: number
    for number, names in (
        (
            1,
            "label tag bibliography bibliographystyle bibliographyunit nocite includegraphics "
            "includepdf graphicspath vspace hspace hphantom phantom vphantom usepackage "
            "RequirePackage documentclass documentstyle pagestyle thispagestyle pagenumbering "
            "author authors affiliation affil address curraddr email emails ead institute "
            "institution date thanks thanksref tnoteref corref cortext orcid orcidlink ORCID "
            "homepage altaffiliation collaboration preprint pacs received accepted revised "
            "published journal volume keywords subjclass dedicatory authorrunning titlerunning "
            "icmlauthor icmlaffiliation icmlcorrespondingauthor inst fnref cmidrule cline "
            "color pagecolor bibinfo index glossary hypersetup usetikzlibrary pgfplotsset "
            "tikzset lstset geometry newlength newcounter theoremstyle "
            "allowdisplaybreaks includeonly stepcounter refstepcounter hyphenation sisetup "
            "captionsetup selectlanguage linespread markright runningtitle runningauthor tikz "
            "setcitestyle setcopyright acmConference acmBooktitle acmPrice acmDOI acmISBN "
            "acmYear copyrightyear ccsdesc doi DeclareGraphicsExtensions bibitem "
            "citestyle",
        ),
        (
            2,
            "setlength addtolength setcounter addtocounter rule fontsize markboth "
            "definecolor icmladdress numberwithin DeclareUnicodeCharacter "
            "newfloat newsavebox counterwithin pdfbookmark",
        ),
        (3, "addcontentsline contentsline DeclareMathAlphabet"),
    )
    for name in names.split()
}

# Of these the first arguments are left out and the last is text.
PARTLY_KEPT = {
    "textcolor": 1, "colorbox": 1, "fcolorbox": 2, "multicolumn": 2, "multirow": 2,
    "parbox": 1, "raisebox": 1, "scalebox": 1, "resizebox": 2, "rotatebox": 1,
    "texorpdfstring": 1, "foreignlanguage": 1, "hyperlink": 1,
    "hypertarget": 1, "adjustbox": 1, "ifthenelse": 2, "SetKw": 1,
}  # fmt: skip

CITATIONS = _words(
    "cite citep citet citealt citealp citeauthor Citeauthor citeyear citeyearpar citenum Cite "
    "Citet Citep citeA parencite textcite Textcite autocite footcite footcitet fullcite "
    "onlinecite citen supercite "
    "ref eqref pageref autoref cref Cref nameref vref subref labelcref fref sref Ref"
)

# Those that are read as part of the sentence: "Smith et al. (2010) show".
TEXTUAL_CITATIONS = _words("citet Citet citealt textcite Textcite citeauthor Citeauthor citeyear")

HEADINGS = _words(
    "part chapter section subsection subsubsection frametitle framesubtitle addchap addsec "
    "specialsection subtitle"
)
RUN_IN = _words("paragraph subparagraph")
# The reader has a method for each.
STRUCTURE = _words(
    "begin end item footnote footnotetext title caption captionof abstract input include subfile "
    "endinput par newtheorem ensuremath emph textbf textit texttt"
)

# A dimension follows these without braces.
DIMENSIONED = _words(
    "vskip hskip kern mskip mkern baselineskip parindent parskip textwidth textheight topmargin "
    "oddsidemargin evensidemargin columnsep headheight headsep footskip leftmargin rightmargin "
    "hsize vsize tabcolsep arrayrulewidth lineskip raise lower hangindent"
)

_MATHS = "equation align gather multline eqnarray alignat flalign displaymath math dmath dgroup"
FORMULAS = frozenset(name + star for name in _MATHS.split() for star in ("", "*"))
_FLOATS = "figure table wrapfigure wraptable floatingfigure sidewaystable sidewaysfigure algorithm"
FLOATS = frozenset(name + star for name in _FLOATS.split() for star in ("", "*"))
LISTS = _words(
    "itemize enumerate description compactitem compactenum inparaenum inparaitem asparaenum "
    "list trivlist itemize* enumerate* enumerati"
)
TABULARS = _words("tabular tabular* tabularx longtable tabulary supertabular tabbing")
# Left out with all that is in them.
UNREAD = _words(
    "thebibliography tikzpicture pgfpicture picture references biblist IEEEbiography "
    "IEEEbiographynophoto keywords keyword CJKfilesize pspicture asy forest "
    "filecontents overpic teaserfigure prooftree tikzcd xy"
)
# Arguments in braces after ``\begin{name}``.
ENVIRONMENT_ARGUMENTS = {
    "minipage": 1, "multicols": 1, "tabular": 1, "tabular*": 2, "tabularx": 2, "longtable": 1,
    "tabulary": 2, "supertabular": 1, "adjustwidth": 2, "list": 2, "spacing": 1, "CJK": 2,
    "CJK*": 2, "alignat": 1, "alignat*": 1, "wrapfigure": 2, "wraptable": 2, "adjustbox": 1,
    "subfigure": 1, "otherlanguage": 1, "textblock": 1, "changemargin": 2,
    "column": 1,
}  # fmt: skip

# Environments that print a name before their text, where the paper declares none of its own.
NAMED = {
    "theorem": "Theorem", "thm": "Theorem", "lemma": "Lemma", "lem": "Lemma",
    "corollary": "Corollary", "cor": "Corollary", "proposition": "Proposition",
    "prop": "Proposition", "definition": "Definition", "defn": "Definition",
    "remark": "Remark", "example": "Example", "conjecture": "Conjecture", "claim": "Claim",
    "proof": "Proof",
}  # fmt: skip
