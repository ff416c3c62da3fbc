"""Chat templates: Jinja that turns messages into text with control tokens in it.

The environment is the one that Hugging Face's ``apply_chat_template`` gives to templates: a sandbox
with ``raise_exception``, ``strftime_now``, a plain ``tojson`` and loop controls, where
``{% generation %}`` blocks mark what the assistant says.

A template writes control tokens by their names, and so could whoever is quoted in it. Therefore
every string that comes from outside is guarded while the template is rendered: each character that
a control token's name has besides letters and digits, and its first and its last, stands between
two marks. No such name is whole if any of these characters is a user's, whatever stands before or
behind it; the marks are taken out of the text afterwards. Trimming, splitting, joining and slicing
keep them in place, and where a template compares, searches or counts, they are looked through.

Words that the template itself has, such as ``content`` or ``user``, are not guarded where they are
a whole key or value. One thing is left to templates: one that writes the punctuation of a control
token around a word from outside, as ``<|{{ message.role }}|>`` does, has to look at the word.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.filters import do_replace
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from datalake.config import Refusal
from training.tokenizer.bpe import END_OF_TEXT

# Noncharacters: no text has them, but if it does, others stand in for them while it is rendered.
_GUARD, _BEGIN, _END = "\ufdd0", "\ufdd1", "\ufdd2"
_ROLES = ("system", "user", "assistant", "tool")
_STAND_INS = range(0xF0000, 0xFFFFE)  # for private use
_RAISED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


class Piece(NamedTuple):
    """A run of text between control tokens, or one of them."""

    text: str
    special: bool
    learned: bool  # the assistant says it


class ChatTemplate:
    """A compiled template. Immutable; threads may share it."""

    def __init__(self, source: str, special_tokens: Collection[str]) -> None:
        """``special_tokens`` are the names that the template may write.

        Raises Refusal where ``source`` does not compile.
        """
        taken = [mark for mark in (_GUARD, _BEGIN, _END) if mark in source]
        if taken:
            raise Refusal(f"chat template must be without {taken[0]!r}, got it in {source!r}")
        self.source = source
        longest_first = sorted(special_tokens, key=len, reverse=True)
        names = [_pattern(name) for name in longest_first]
        self._cut = re.compile(f"({'|'.join([_BEGIN, _END, *names])})")
        guards = self._guards = _Guards(special_tokens, source)
        given: dict[str, str | None] = {"tools": None, "documents": None}
        if END_OF_TEXT in special_tokens:
            given |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        environment = _Environment(guards)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise Refusal(
                f"chat template must be Jinja that compiles, got line {error.lineno}: "
                f"{error.message}"
            ) from None
        self._given = environment.globals | given

    def pieces(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> list[Piece]:
        """What the template makes of ``messages``, which may hold text, numbers, lists, mappings.

        ``variables`` are given to the template too: ``tools``, or what else it asks for. Text that
        both stands in a generation block and outside is cut at the border, as a prompt is that
        ends there. Raises Refusal where the template fails, or refuses the messages itself.
        """
        outside = {"messages": messages, **variables}
        stand_ins: dict[str, str] = {}
        try:
            guarded = self._guards.guarded_fields(outside)
        except _TakenError:
            stand_ins = _stand_ins(outside)
            guarded = self._guards.guarded_fields(_translated(outside, stand_ins))
        try:
            known = self._given | guarded | {"add_generation_prompt": add_generation_prompt}
            context = self._template.new_context(known, shared=True)
            text = "".join(self._template.root_render_func(context))
        except jinja2.TemplateError as error:
            raise Refusal(f"messages must be as the chat template asks, got: {error}") from None
        except _RAISED as error:
            raise Refusal(
                f"messages must be as the chat template asks, got {type(error).__name__}: {error}"
            ) from None
        return self._pieces(text, {new: old for old, new in stand_ins.items()})

    def _pieces(self, text: str, given_back: Mapping[str, str]) -> list[Piece]:
        pieces: list[Piece] = []
        depth = 0
        parts = self._cut.split(text)  # text, token or mark, text, ...
        for said, token in zip(parts[::2], [*parts[1::2], None], strict=True):
            if said and (said := said.replace(_GUARD, "")):
                pieces.append(Piece(_translated(said, given_back), False, depth > 0))
            if token == _BEGIN:
                depth += 1
            elif token == _END:
                depth -= 1
            elif token is not None:
                pieces.append(Piece(token, True, depth > 0))
        return pieces


class _TakenError(Exception):
    """A string from outside has one of our marks."""


class _Guards:
    """Puts marks around the characters that make control tokens, and takes them away."""

    def __init__(self, special_tokens: Collection[str], source: str) -> None:
        words = {*re.findall(r"\w+", source), *_ROLES}
        self._words = frozenset(words.difference(special_tokens))
        marked = {
            c for name in special_tokens for c in name if not (c.isalnum() or c == "_" or c == " ")
        }
        ends = {c for name in special_tokens for c in (name[0], name[-1])}
        marked |= {case for c in ends for case in (c, c.lower(), c.upper()) if len(case) == 1}
        self._marked = [(c, f"{_GUARD}{c}{_GUARD}") for c in sorted(marked)]

    def guarded(self, text: str) -> str:
        for character, between in self._marked:
            if character in text:
                text = text.replace(character, between)
        return text

    def guarded_fields(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Every value guarded; the names of variables are the caller's."""
        return {name: self.guarded_all(value) for name, value in variables.items()}

    def guarded_all(self, value: Any) -> Any:
        """``value`` with every string in it guarded, keys as well.

        Raises _TakenError where one has marks already.
        """
        if isinstance(value, str):
            if not value.isascii() and (_GUARD in value or _BEGIN in value or _END in value):
                raise _TakenError
            return value if value in self._words else self.guarded(value)
        if isinstance(value, dict):
            guarded = self.guarded_all
            return {guarded(key): guarded(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.guarded_all(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise Refusal(
            f"messages must hold text, numbers, lists and mappings, got {type(value).__name__}"
        )

    def sought(self, value: Any) -> Any:
        """What a search for ``value`` in a guarded string has to look for."""
        if isinstance(value, str):
            return self.guarded(_plain(value))
        return tuple(map(self.sought, value)) if isinstance(value, tuple) else value

    def printed(self, value: Any) -> Any:
        """A list or a mapping as it is printed."""
        if isinstance(value, list | tuple | dict):
            return self.guarded(str(_plain(value)))
        return value

    def to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        text = json.dumps(
            _plain(value),
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )
        return self.guarded(text)


def _plain(value: Any) -> Any:
    """``value`` without marks."""
    if isinstance(value, str):
        return value.replace(_GUARD, "") if _GUARD in value else value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value


def _pattern(name: str) -> str:
    """Matches a control token; one of a single character has no place inside for a mark."""
    alone = len(name) == 1
    return f"(?<!{_GUARD}){re.escape(name)}(?!{_GUARD})" if alone else re.escape(name)


def _stand_ins(value: Any) -> dict[str, str]:
    """For each of our marks a character that is nowhere in ``value``."""
    used = set().union(*_strings(value))
    marks = (_GUARD, _BEGIN, _END)
    free = [c for c in map(chr, _STAND_INS) if c not in used][: len(marks)]
    if len(free) < len(marks):
        raise Refusal("messages must leave characters of plane 15 for private use, got all")
    return dict(zip(marks, free, strict=True))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _translated(value: Any, characters: Mapping[str, str]) -> Any:
    """``value`` with one character for another in every string."""
    if not characters:
        return value
    if isinstance(value, str):
        return value.translate({ord(old): new for old, new in characters.items()})
    if isinstance(value, dict):
        return {
            _translated(key, characters): _translated(item, characters)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_translated(item, characters) for item in value]
    return value


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja as templates of Hugging Face expect it, looking through the marks."""

    def __init__(self, guards: _Guards) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
            finalize=guards.printed,
        )
        self._guards = guards
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self.filters["tojson"] = guards.to_json
        self.filters["string"] = lambda value: str(guards.printed(value))
        self.filters["length"] = self.filters["count"] = lambda value: len(_plain(value))
        self.filters["replace"] = _replacing(guards)
        self.filters[_LOOK_THROUGH] = _plain
        self.filters[_SLICED] = _sliced
        for name in ("in", "eq", "equalto", "==", "ne", "!="):
            self.tests[name] = _looking_through(self.tests[name])

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(_LookingThrough().visit(source), *args, **kwargs)

    def call(self, context: Any, called: Any, *args: Any, **kwargs: Any) -> Any:
        """As the sandbox calls; a method of a guarded string looks for what is guarded alike."""
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str) and args and _GUARD in owner:
            if called.__name__ in _PLACES:
                called, args = getattr(_plain(owner), called.__name__), tuple(map(_plain, args))
            else:
                args = (self._guards.sought(args[0]), *args[1:])
        return super().call(context, called, *args, **kwargs)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """As the sandbox does; the characters of a string are counted without marks."""
        if isinstance(obj, str) and isinstance(argument, int) and _GUARD in obj:
            obj = _characters(obj)
        return super().getitem(obj, argument)


class _Generation(Extension):
    """``{% generation %}``: what is rendered inside stands between two marks."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marked = self.call_method("_marked")
        return nodes.CallBlock(marked, [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{_BEGIN}{caller()}{_END}"


_LOOK_THROUGH, _SLICED = "look_through", "sliced"
_PLACES = ("find", "rfind", "index", "rindex")  # methods that say where something is


class _LookingThrough(NodeTransformer):
    """Compares what is without marks, and slices by numbers that do not count them."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _looked_through(node.expr)
        for operand in node.ops:
            operand.expr = _looked_through(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        numbers = [end or nodes.Const(None) for end in ends]
        return _filtered(node.node, _SLICED, numbers)


def _looked_through(expression: nodes.Expr) -> nodes.Expr:
    if isinstance(expression, nodes.Const):
        return expression
    return _filtered(expression, _LOOK_THROUGH, [])


def _filtered(expression: nodes.Expr, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    filtered = nodes.Filter(expression, name, args, [], None, None)
    filtered.set_lineno(expression.lineno)
    filtered.environment = expression.environment
    return filtered


def _sliced(value: Any, start: int | None, stop: int | None, step: int | None) -> Any:
    if isinstance(value, str) and _GUARD in value:
        return "".join(_characters(value)[start:stop:step])
    return value[start:stop:step]


def _characters(text: str) -> list[str]:
    """Characters, each with its marks."""
    return re.findall(f"{_GUARD}[^{_GUARD}]{_GUARD}|[^{_GUARD}]", text)


def _looking_through(test: Any) -> Callable[[Any, Any], bool]:
    return lambda one, other: test(_plain(one), _plain(other))


def _replacing(guards: _Guards) -> Callable[..., str]:
    @jinja2.pass_eval_context
    def replace(
        context: nodes.EvalContext, text: str, old: str, new: str, count: int | None = None
    ) -> str:
        guarded = isinstance(text, str) and _GUARD in text
        return do_replace(context, text, guards.sought(old) if guarded else old, new, count)

    return replace


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(_plain(message))
