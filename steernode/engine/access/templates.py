"""Chat templates: a conversation as the model's own template writes it, and which parts of it somebody said.

A template is the only author of control tokens. Where a message, or an argument of the template, spells one, the text is marked while the
template runs, so that the tokenizer can be made to read it as ordinary text: see `Written.quoted`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any

from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.strict import read_clock
from steernode.words import CLOCK_ARGUMENT, NO_TEMPLATE_ARGUMENTS

Argument = str | int | bool

# Unicode's second private plane: characters that mean nothing, from which two that nobody wrote are taken as marks.
_PRIVATE = range(0x100000, 0x10FFFE)


@dataclass(frozen=True)
class Written:
    """One conversation in the template's words. All spans are (start, end) in characters of `text`.

    `assistant` is what the template marks as the assistant's. `quoted` are the control tokens that somebody wrote and the template did
    not; an empty one is a place where the template cut through one, across which nothing may join into a token.
    """

    text: str
    assistant: tuple[tuple[int, int], ...] = ()
    quoted: tuple[tuple[int, int], ...] = ()


def write_conversation(
    tokenizer: Any,
    messages: Sequence[Message],
    arguments: Mapping[str, Argument] = MappingProxyType({}),
    *,
    add_generation_prompt: bool,
    mark_assistant: bool = False,
) -> Written:
    """`arguments` are what the template is given beside the messages, as `read_template_arguments` reads them.

    Raises: EngineError TEMPLATE_CLOCK if the template looks at the clock, and no argument says what that shows; TEMPLATE_RANDOM if it
    draws by chance; whatever else the template raises, which is a program and may raise what it likes.
    """
    template = tokenizer.get_chat_template()
    find = control_tokens(tokenizer, template).spans
    said = [*(message.content for message in messages), *(value for value in arguments.values() if isinstance(value, str))]
    marked = {text[start:end] for text in said for start, end in find(text)}
    marks = _choose_marks(said) if marked else None

    def mark(value: Any) -> Any:
        return _mark(value, find(value), marks) if marks and isinstance(value, str) else value

    documents = [{"role": message.role, "content": mark(message.content)} for message in messages]
    given = {name: mark(value) for name, value in arguments.items() if name != CLOCK_ARGUMENT}
    given[CLOCK_ARGUMENT] = _stop_clock(arguments.get(CLOCK_ARGUMENT))
    written, assistant = _run(tokenizer, template, documents, add_generation_prompt, mark_assistant, given)
    return _take_marks_out(written, assistant, marks, marked) if marks else Written(written, assistant)


@dataclass(frozen=True)
class ControlTokens:
    """The tokens that only a template may write, and where a text spells them."""

    ids: frozenset[int]
    pattern: re.Pattern[str]
    # Set where a token is also found in texts that spell it otherwise, such as in capitals.
    tokenizer: Any = None

    def spans(self, text: str) -> list[tuple[int, int]]:
        if self.tokenizer is None:
            return [match.span() for match in self.pattern.finditer(text)]
        read = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [tuple(span) for token, span in zip(read["input_ids"], read["offset_mapping"], strict=True) if token in self.ids]


@lru_cache(maxsize=8)
def control_tokens(tokenizer: Any, template: str) -> ControlTokens:
    """All special tokens, flagged or named as such, and the added ones that the template writes: as they are, or put together.

    Other added tokens are vocabulary, such as the tags and runs of spaces that some tokenizers keep as tokens of their own.
    """
    added = {token_id: token for token_id, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    by_template = {*tokenizer._get_control_tokens(template), *tokenizer.all_special_tokens}
    seen = "\0".join(_sample(tokenizer, template))
    found = {token_id: token for token_id, token in added.items() if token.content in by_template or token.content in seen}
    longest_first = sorted((token.content for token in found.values()), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    backend = getattr(tokenizer, "backend_tokenizer", None)
    has_other_spellings = any(token.normalized for token in found.values()) and getattr(backend, "normalizer", None) is not None
    return ControlTokens(frozenset(found), pattern, tokenizer if has_other_spellings else None)


def _sample(tokenizer: Any, template: str) -> list[str]:
    """What the template writes around messages that say nothing. A template that takes no such conversation adds nothing here."""
    written = []
    for roles in (("system", "user", "assistant", "user"), ("user", "assistant"), ("user",)):
        for add_generation_prompt in (False, True):
            try:
                text, _ = _run(tokenizer, template, [{"role": role, "content": ""} for role in roles], add_generation_prompt, False, {})
            except Exception:  # noqa: S112 - a template may raise what it likes
                continue
            written.append(text)
    return written


def check_arguments(tokenizer: Any, arguments: Mapping[str, Argument]) -> None:
    """Whether the template reads these arguments, and none that is missing is the time of day.

    Raises: EngineError TEMPLATE_ARGUMENT naming one that it does not read, TEMPLATE_CLOCK, TEMPLATE_RANDOM.
    """
    from jinja2 import meta, nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = tokenizer.get_chat_template()
    tree = _compile_jinja_template(template).environment.parse(template)
    # The clock is a global, which is not among the undeclared.
    read = meta.find_undeclared_variables(tree) | ({name.name for name in tree.find_all(nodes.Name)} & {CLOCK_ARGUMENT})
    unread = sorted(set(arguments) - read)
    if unread:
        known = ", ".join(sorted(read - {*NO_TEMPLATE_ARGUMENTS, *tokenizer.special_tokens_map})) or "none"
        raise EngineError("TEMPLATE_ARGUMENT", f"the chat template does not read {unread[0]!r}; it reads {known}", unread[0])
    try:
        write_conversation(tokenizer, [Message("user", "Hi")], arguments, add_generation_prompt=True)
    except EngineError as error:
        if error.code in ("TEMPLATE_CLOCK", "TEMPLATE_RANDOM"):
            raise
    except Exception:  # noqa: S110 - what the template thinks of this conversation is not asked here
        pass


def _stop_clock(shows: Argument | None) -> Callable[[str], str]:
    """The `strftime_now` that a template calls."""

    def strftime_now(wanted: str) -> str:
        if shows is None:
            raise EngineError(
                "TEMPLATE_CLOCK",
                f"the chat template writes today's date, and would be another template tomorrow; give it one with {CLOCK_ARGUMENT} "
                "(such as 2026-11-30), or with the argument that it looks at before the clock",
                CLOCK_ARGUMENT,
            )
        return read_clock(shows, CLOCK_ARGUMENT).strftime(wanted)

    return strftime_now


def _refuse_chance(*_arguments: Any, **_named: Any) -> str:
    """In the place of what a template draws by."""
    problem = "the chat template writes something else every time, by chance, so nothing measured of one prompt holds for the next"
    raise EngineError("TEMPLATE_RANDOM", problem, "chat_template")


def _run(
    tokenizer: Any,
    template: str,
    documents: Sequence[Mapping[str, str]],
    add_generation_prompt: bool,
    mark_assistant: bool,
    arguments: Mapping[str, Any],
) -> tuple[str, tuple[tuple[int, int], ...]]:
    # Imported here because transformers takes seconds to import. Private names, of the exact version in requirements.txt: what the library
    # has in public gives tokens and no text beside the mask.
    from transformers.utils.chat_template_utils import _compile_jinja_template, _render_with_assistant_indices

    compiled = _compile_jinja_template(template)
    compiled.environment.filters["random"] = compiled.environment.globals["lipsum"] = _refuse_chance
    given = {"messages": list(documents), "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
    given = {**tokenizer.special_tokens_map, **arguments, **given}
    if mark_assistant:
        text, spans = _render_with_assistant_indices(compiled, **given)
        return text, tuple((start, end) for start, end in spans)
    return compiled.render(**given), ()


def _choose_marks(said: Sequence[str]) -> tuple[str, str]:
    used = set().union(*said)
    start, end = islice((chr(code) for code in _PRIVATE if chr(code) not in used), 2)
    return start, end


def _mark(text: str, spans: Sequence[tuple[int, int]], marks: tuple[str, str]) -> str:
    pieces, last = [], 0
    for start, end in spans:
        pieces += [text[last:start], marks[0], text[start:end], marks[1]]
        last = end
    return "".join([*pieces, text[last:]])


def _take_marks_out(text: str, assistant: Sequence[tuple[int, int]], marks: tuple[str, str], marked: set[str]) -> Written:
    """Only what was marked is quoted: between two marks that the template tore apart may stand tokens of its own."""
    start, end = marks
    longest_first = sorted(marked, key=len, reverse=True)
    pattern = re.compile(f"{start}({'|'.join(map(re.escape, longest_first))}){end}|[{start}{end}]")
    pieces: list[str] = []
    quoted: list[tuple[int, int]] = []
    written = last = 0
    for match in pattern.finditer(text):
        pieces += [text[last : match.start()], match[1] or ""]
        written += match.start() - last
        quoted.append((written, written + len(match[1] or "")))
        written, last = quoted[-1][1], match.end()

    def moved(position: int) -> int:
        return position - text.count(start, 0, position) - text.count(end, 0, position)

    spans = tuple((moved(first), moved(last)) for first, last in assistant)
    return Written("".join([*pieces, text[last:]]), spans, tuple(quoted))


def encode_quoting(tokenizer: Any, written: Written, name: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids, and the characters of `written.text` that each is of, with what is quoted as ordinary text.

    The pieces between quotes are read one by one, as `apply_chat_template(..., sanitize_control_tokens=True)` does. That has no mask
    of the assistant's tokens and knows no token that a template puts together, which is why the same is done here.

    Raises: EngineError CONTROL_TOKEN, naming the conversation, if the tokenizer makes the control token out of ordinary text as well.
    """
    control = control_tokens(tokenizer, tokenizer.get_chat_template()).ids - {tokenizer.unk_token_id}
    [newline] = tokenizer(["\n"], add_special_tokens=False)["input_ids"]
    token_ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    last = 0
    for start, end in (*written.quoted, (len(written.text), len(written.text))):
        for first, after, is_quoted in ((last, start, False), (start, end, True)):
            if first == after:
                continue
            piece = written.text[first:after]
            read = _read_as_text if is_quoted else _read
            ids, spans = read(tokenizer, piece)
            if first:
                # Behind a newline, because many a tokenizer puts a space before what it takes for the beginning of a text.
                later_ids, later_spans = read(tokenizer, "\n" + piece)
                if later_ids[: len(newline)] == newline:
                    ids = later_ids[len(newline) :]
                    spans = [(max(0, one - 1), max(0, other - 1)) for one, other in later_spans[len(newline) :]]
            if is_quoted and not control.isdisjoint(ids):
                raise EngineError(
                    "CONTROL_TOKEN",
                    f"{name}: somebody wrote {piece!r}, of which this tokenizer makes a control token even where it is ordinary text",
                    piece,
                )
            token_ids += ids
            offsets += [(first + one, first + other) for one, other in spans]
        last = end
    return token_ids, offsets


def _read(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    is_fast = bool(getattr(tokenizer, "is_fast", False))
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=is_fast)
    ids = list(read["input_ids"])
    # Nobody asks a tokenizer without offsets for them: see `encode_prompts`.
    return ids, [tuple(span) for span in read["offset_mapping"]] if is_fast else [(0, len(text))] * len(ids)


def _read_as_text(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Every token is said to be of the whole text, which is short and of one author."""
    ids = list(tokenizer._encode_without_added_tokens(text))
    return ids, [(0, len(text))] * len(ids)
