r"""What a reader of a paper sees: prose, formulas as LaTeX, and nothing that TeX works with."""

import gzip
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datalake.transforms import latex_macros
from datalake.transforms.latex_text import read_latex
from datalake.transforms.latex_tokens import tokens
from datalake.transforms.text import Unreadable
from tests.datalake.latex_bundles import bundle, paper, tar_of


def text_of(body: str, preamble: str = "", **files: str | bytes) -> str:
    return read_latex(bundle(main_tex=paper(body, preamble), **files)).text


@given(st.text("\\{}$%&~#^_[]ab1 \n'`-*@.", max_size=60))
def test_tokens_joined_are_the_source_where_nothing_is_left_out(source: str) -> None:
    source = source.replace("%", "")
    assert "".join(tokens(source)) == source


@given(st.text("\\{}$%&~#^_[]ab1 \n'`-*@.", max_size=200))
def test_no_source_makes_the_reader_fail_otherwise_than_by_refusing(source: str) -> None:
    try:
        read_latex(bundle(main_tex=paper(source)))
    except Unreadable as reason:
        assert str(reason) == "no text"


@given(st.lists(st.sampled_from(["word", "$x^2$", "$\\alpha$", "two words."]), max_size=8))
def test_prose_without_commands_is_only_reflowed(pieces: list[str]) -> None:
    body = "\n".join(pieces)
    if pieces:
        assert text_of(body) == " ".join(body.split())


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (
            r"Caf\'e na\"{\i}ve \~nu \c{c}a \v{S}koda \H{o} \aa \ss{}en",
            "Café naïve ñu ça Škoda ő åßen",
        ),
        (
            r"{\O}rsted, \L{}\'od\'z, \'{\i}, \.Zukowski, Erd\H os",
            "Ørsted, Łódź, í, Żukowski, Erdős",
        ),
        ("``quoted'' and `single' -- a---b", "\"quoted\" and 'single' – a—b"),
        (r"50\% of \$5 \& \#1 a\_b \{c\}", "50% of $5 & #1 a_b {c}"),
        ("a~b%comment\nc % more\n  d", "a bc d"),
        (r"\textbf{bold \emph{and {\em more}}} {\tt code}", "bold and more code"),
        (r"Smith et al.~(\cite{a}) show \citep[p.~3][]{b,c}.", "Smith et al. show."),
        (r"as shown \cite{a}, \cite{b} and~\cite{c}; see [\ref{x}] here", "as shown; see here"),
        (r"in Section~\ref{s}, Eq.~(\ref{e}).", "in Section, Eq.."),
        (r"(kept) [too] (\emph{x})", "(kept) [too] (x)"),
        (r"\verb|a_b % $c$| and \verb+\x+", r"a_b % $c$ and \x"),
        (
            r"\url{http://x.org/a%20b_c} \href{http://y.org/%7E}{there}",
            "http://x.org/a%20b_c there",
        ),
        (r"a\footnote{Note $z$.} b", "a b\n\nNote $z$."),
        (r"\textcolor{red}{x} \vspace{1cm}\hspace*{2pt}y \rule{1pt}{2pt}z", "x y z"),
        (r"a \vskip 3pt plus 1pt b \parindent=0pt c", "a b c"),
        (r"\noindent [1] stays, \foo[opt]{x} does not", "[1] stays, x does not"),
        (r"\iffalse no \ifx a b\fi \else yes\fi{} and \iftrue on\else off\fi", "yes and on"),
        (r"\section*{One}\label{a} text \paragraph{Run in.} more", "One\n\ntext\n\nRun in. more"),
        ("one\n%\n\ntwo\n% only\nthree", "one\n\ntwo three"),
        (r"10\,km and e.g.\ this\\next", "10 km and e.g. this\nnext"),
        (r"\section {A} \subsection[short]{Long $x$}", "A\n\nLong $x$"),
    ],
)
def test_text_is_what_is_printed(latex: str, text: str) -> None:
    assert text_of(latex) == text


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"$a_1 \text{ for $b$}$ c", r"$a_1 \text{ for $b$}$ c"),
        (r"\(x\) and $a$$b$", r"\(x\) and $a$$b$"),
        ("a \\[ x % c\n = y \\label{e} \\] b", "a\n\\[ x = y \\]\nb"),
        ("$$ x\n y $$", "$$ x\ny $$"),
        (
            "\\begin{align*}\n  a &= b \\nonumber\\\\\n  % c\n  c &= d\n\\end{align*}",
            "\\begin{align*}\na &= b \\\\\nc &= d\n\\end{align*}",
        ),
        (r"\ensuremath{\alpha} is", r"$\alpha$ is"),
        (r"$a \iff b$, $|x|$ (in $f()$)", r"$a \iff b$, $|x|$ (in $f()$)"),
        ("lost $x \n\nnext $y$", "lost $x\n\nnext $y$"),
    ],
)
def test_formulas_stay_latex(latex: str, text: str) -> None:
    assert text_of(latex) == text


@pytest.mark.parametrize(
    ("preamble", "body", "text"),
    [
        (r"\newcommand{\R}{\mathbb{R}}", r"$x\in\R$", r"$x\in\mathbb{R}$"),
        (r"\newcommand\norm[1]{\|#1\|}", r"$\norm{x y}+\norm z$", r"$\|x y\|+\|z\|$"),
        (r"\newcommand{\ket}[2][0]{|#1,#2>}", r"$\ket{a}\ket[1]{b}$", "$|0,a>|1,b>$"),
        (r"\def\a{\alpha}", r"$\a x\a$", r"$\alpha x\alpha$"),
        (r"\def\f#1#2{(#2,#1)}", r"$\f ab\f{c d}e$", "$(b,a)(e,c d)$"),
        (r"\DeclareMathOperator{\argmin}{arg\,min}", r"$\argmin f$", r"$\operatorname{arg\,min}f$"),
        (r"\DeclarePairedDelimiter{\abs}{\lvert}{\rvert}", r"$\abs{x}$", r"$\lvert x \rvert$"),
        (
            r"\def\be{\begin{equation}}\def\ee{\end{equation}}",
            r"a \be x \ee b",
            "a\n\\begin{equation}x\n\\end{equation}\nb",
        ),
        (r"\newcommand{\eg}{e.g.\xspace}", r"\eg this, \eg.", "e.g. this, e.g.."),
        (r"\newenvironment{q}[1]{Says #1: }{ End.}", r"\begin{q}{he}x\end{q}", "Says he: x End."),
        (r"\let\old\emph \renewcommand{\emph}[1]{X}", r"\old{a} \emph{b}", "a b"),
        (r"\let\old\foo \renewcommand{\foo}[1]{(\old{#1})}", r"\foo{a}", "(a)"),
        (r"\newif\ifdraft \drafttrue", r"\ifdraft a\else b\fi\draftfalse\ifdraft c\fi", "a"),
        (r"\def\x#1.{delimited}", r"a \x{b} c", "a b c"),
        (r"\newcommand{\cite}[1]{broken}\def\section#1{broken}", r"a \cite{x}b", "a b"),
        (r"\newcommand{\m}{\ifmmode x\else $x$\fi}", r"\m{} $\m$", "$x$ $x$"),
    ],
)
def test_macros_of_the_author_are_expanded(preamble: str, body: str, text: str) -> None:
    assert text_of(body, preamble) == text


def test_structure_becomes_lines() -> None:
    body = r"""
\maketitle
\begin{abstract} We show. \end{abstract}
\begin{itemize} \item one \item[two] $2$ \end{itemize}
\begin{enumerate} \item a \begin{enumerate} \item b \end{enumerate} \item c \end{enumerate}
\begin{thm}[Main] Let $x$. \end{thm} \begin{proof} Easy. \end{proof}
\begin{figure}[h] \includegraphics{x} gone \caption[s]{A \emph{caption}.} \label{f} \end{figure}
\begin{table} \begin{tabular}{l} gone \end{tabular} \caption{Of a table.} \end{table}
\begin{tabular}{l|r} a & b \\ \hline \multicolumn{2}{c}{c} \\ \end{tabular}
\begin{lstlisting}[language=C]
  int x; // 100% $
\end{lstlisting}
\begin{tikzpicture} gone \node {x}; \end{tikzpicture}
\begin{comment} gone } \end{comment}
\bibliographystyle{plain} \bibliography{refs}
\begin{thebibliography}{9} \bibitem{a} gone \end{thebibliography}
"""
    preamble = r"\newtheorem{thm}{Satz}[section] \title[t]{On $\alpha$\thanks{Gone}} \author{Gone}"
    assert text_of(body, preamble).split("\n") == [
        *("On $\\alpha$", "", "Abstract", "", "We show.", ""),
        *("- one", "two $2$", "", "1. a", "", "1. b", "", "2. c", ""),
        *("Satz (Main). Let $x$.", "", "Proof. Easy.", ""),
        *("A caption.", "", "Of a table.", ""),
        *("a | b", "c", "", "  int x; // 100% $"),
    ]


def test_a_citation_that_is_part_of_its_sentence_is_spelled_out() -> None:
    bbl = (
        "\\begin{thebibliography}{2}\n"
        "\\bibitem[{Erd{\\H o}s et~al.(2010)Erd{\\H o}s, Lee}]{e10} gone\n"
        "\\bibitem[Lee(2011a)]%\n {lee} gone\n\\end{thebibliography}"
    )
    body = (
        r"\citet{e10} and \citeauthor{lee} show \citep{e10}. \citet[p.~2]{e10, lee}. See \citet{x}."
    )
    assert text_of(body + r" \input{main.bbl}", main_bbl=bbl) == (
        "Erdős et al. (2010) and Lee show. Erdős et al. (2010) and Lee (2011a). See."
    )


def test_names_of_theorems_may_be_latex() -> None:
    preamble = r"\newtheorem*{thm}{Th\'eor\`eme}\declaretheorem[name=Claim, numbered=no]{cl}"
    body = r"\begin{thm}[de X] a \end{thm} \begin{cl} b \end{cl}"
    assert text_of(body, preamble) == "Théorème (de X). a\n\nClaim. b"


def test_files_are_followed_inside_the_bundle_and_loops_end() -> None:
    text = text_of(
        r"a \input{sec/one} \include{missing} \input ../../../etc/passwd "
        r"\subfile{sec/two} \input two_words.tex end",
        sec__one_tex=r"one \input{main} \input{sec/one}",
        sec__two_tex=paper("two"),
    )
    assert text == "a one two end"


def test_macros_of_style_files_in_the_bundle_are_known() -> None:
    style = r"\ProvidesPackage{mine}\newcommand{\R}{\mathbb{R}}\def\@in{a@b}\def\x{\@in}"
    assert text_of(r"$\R$ \x{y}", r"\usepackage[a]{amsmath,mine}", mine_sty=style) == (
        r"$\mathbb{R}$ y"
    )


def test_the_title_of_the_metadata_comes_first_and_may_be_latex() -> None:
    source = bundle(main_tex=paper(r"\title{Mine} x"))
    assert read_latex(source).title == "Mine"
    read = read_latex(source, "On 5% of Erd\\H{o}s and\n $x$")
    assert (read.title, read.text) == ("On 5% of Erdős and $x$", "On 5% of Erdős and $x$\n\nx")


def test_the_main_file_is_found() -> None:
    long = paper("supplement " * 99)
    chapter = "\\documentclass{standalone}\\begin{document}" + "figure " * 99 + "\\end{document}"
    assert text_of("x", supplement_tex=long, figure_tex=chapter) == "x"
    assert read_latex(bundle(a_tex=paper("small"), b_tex=long)).text.startswith("supplement")
    assert read_latex(bundle(a_tex=paper("x \\input{b}"), b_tex=long)).text.startswith("x supp")
    hint = json.dumps({"sources": [{"filename": "a.tex", "usage": "toplevel"}]}).encode()
    files = {"a.tex": paper("x").encode(), "main.tex": long.encode()}
    assert read_latex(gzip.compress(tar_of(files | {"00README.json": hint}))).text == "x"
    old = files | {"00README.XXX": b"a.tex toplevelfile\n"}
    assert read_latex(gzip.compress(tar_of(old))).text == "x"
    commented = "% \\documentclass{a} \\begin{document}\n" + "y" * 9999
    assert text_of("x", paper_tex=commented) == "x"


def test_one_gzipped_file_is_a_bundle_too() -> None:
    assert read_latex(gzip.compress(paper("x").encode())).text == "x"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("é".encode(), "utf-8"),
        ("é".encode("latin-1"), "iso8859-1"),
        ("\\usepackage[cp1251]{inputenc} ж".encode("cp1251"), "cp1251"),
        ("\\usepackage[ansinew]{inputenc} –".encode("cp1252"), "cp1252"),
    ],
)
def test_the_encoding_is_utf8_or_what_inputenc_says(data: bytes, encoding: str) -> None:
    source = b"\\documentclass{a}\\begin{document}x " + data + b"\\end{document}"
    read = read_latex(gzip.compress(source))
    assert read.encoding == encoding
    assert read.text == "x " + data.decode(encoding).split("{inputenc} ")[-1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4 ...", "no LaTeX source"),
        (gzip.compress(b"%PDF-1.4 ...", mtime=0), "no LaTeX source"),
        (gzip.compress(tar_of({"a.pdf": b"%PDF-1.4"}), mtime=0), "no LaTeX source"),
        (gzip.compress(b"\\magnification 1200 Plain \\bye", mtime=0), "no main file"),
        (gzip.compress(paper(r"\label{x}").encode(), mtime=0), "no text"),
        (gzip.compress(paper("x" * 99999).encode(), mtime=0)[:80], "damaged bundle"),
        (gzip.compress(b"a" * (80 << 20), mtime=0), "compressed further than max_ratio"),
        (b"junk", "not an archive inside"),
    ],
)
def test_what_has_no_latex_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_latex(data)
    assert str(refused.value) == reason


def bomb(doublings: int) -> str:
    names = [f"\\x{chr(97 + n)}" for n in range(doublings + 1)]
    pairs = itertools.pairwise(names)
    return "".join(f"\\def{a}{{{b}{b}}}" for a, b in pairs) + f"\\def{names[-1]}{{lol}}"


HOSTILE = {
    "braces": ("", "{" * 100_000 + "x" + "}" * 100_000),
    "braces left open": ("", "x" + "{" * 100_000),
    "emphasis": ("", r"\emph{" * 50_000 + "x"),
    "sections": ("", "x" + r"\section" * 50_000),
    "brackets": ("", "x" + r"\foo[a " * 5_000),
    "environments that nothing opened": ("", r"\begin{x}" * 900 + r"x\end{y}" * 20_000),
    "verbatim left open": ("", r"\begin{verbatim}x\end{verbatim*}" * 900),
    "citations": ("", "x" + r"(\cite{a}, " * 20_000),
    "dollars": ("", "x" + "$" * 100_001),
    "conditionals": ("", "x" + r"\ifx " * 50_000),
    "blanks": ("", "x" + " " * 200_000 + "\n" * 200_000 + "x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sources_take_time_in_proportion_to_their_length(name: str) -> None:
    preamble, body = HOSTILE[name]
    began = time.process_time()
    assert "x" in text_of(body, preamble)
    assert time.process_time() - began < 30  # it takes tenths of a second, quadratic minutes


@pytest.mark.parametrize(
    ("preamble", "body", "reason"),
    [
        (bomb(24), r"\xa", "macros expand too far"),
        (r"\def\f#1{#1#1#1#1}", r"\f{" * 20 + "x" + "}" * 20, "macros expand too far"),
        (r"\def\f#1{(#1)}", r"\f{" * 20_000 + "}" * 20_000, "macros expand too far"),
        (r"\def\a{\b x}\def\b{\a}", r"\a", "macros nested too deep"),
        ("", r"\footnote{" * 1000, "environments nested too deep"),
        ("", r"\begin{x}" * 5000, "environments nested too deep"),
    ],
)
def test_macro_bombs_are_refused(
    monkeypatch: pytest.MonkeyPatch, preamble: str, body: str, reason: str
) -> None:
    monkeypatch.setattr(latex_macros, "_MAX_EXPANSION", 500_000)  # sooner than in earnest
    with pytest.raises(Unreadable) as refused:
        text_of(body, preamble)
    assert str(refused.value) == reason
