# SPDX-License-Identifier: GPL-2.0-only
"""Demangled names of Rust functions in stack traces (kernels with CONFIG_RUST print mangled ones).

The grammar is that of rustc's v0 mangling (RFC 2603), of which kernel traces need paths, implementations,
generics and plain types; a name that uses more stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

_BASIC_TYPES = {
    "a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8", "i": "isize",
    "j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "p": "_", "s": "i16", "t": "u16",
    "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!",
}  # fmt: skip
_REFERENCES = {"R": "&", "Q": "&mut ", "P": "*const ", "O": "*mut "}
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DEEPEST = 64
_MOST_STEPS = 2000


class _UnknownGrammarError(Exception):
    """The name is damaged, or uses a part of the grammar that is not implemented."""


class _Reader:
    """Reads one mangled name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._steps = 0

    def path(self) -> str:
        """``<path>`` of the grammar."""
        return self._nested(self._path)

    def _nested(self, read: Callable[[], str]) -> str:
        self._depth += 1
        self._steps += 1
        if self._depth > _DEEPEST or self._steps > _MOST_STEPS:
            raise _UnknownGrammarError
        try:
            return read()
        finally:
            self._depth -= 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise _UnknownGrammarError
        self._at += 1
        return char

    def _skip(self, char: str) -> bool:
        found = self._peek() == char
        self._at += found
        return found

    def _path(self) -> str:
        tag = self._next()
        if tag == "C":
            return self._identifier()
        if tag == "N":
            return self._nested_name()
        if tag == "M":
            self._implementation()
            return f"<{self._type()}>"
        if tag in "XY":
            if tag == "X":
                self._implementation()
            return f"<{self._type()} as {self.path()}>"
        if tag == "I":
            return self._generic()
        if tag == "B":
            return self._earlier(self.path)
        raise _UnknownGrammarError

    def _nested_name(self) -> str:
        namespace = self._next()
        outer, name = self.path(), self._identifier()
        if namespace.islower():
            return f"{outer}::{name}" if name else outer
        return f"{outer}::{{{'closure' if namespace == 'C' else 'shim'}}}"

    def _implementation(self) -> None:
        if self._skip("s"):
            self._number()
        self.path()

    def _generic(self) -> str:
        name = self.path()
        arguments: list[str] = []
        while not self._skip("E"):
            if self._peek() in ("L", "K"):
                raise _UnknownGrammarError
            arguments.append(self._type())
        return f"{name}<{', '.join(arguments)}>"

    def _type(self) -> str:
        return self._nested(self._plain_type)

    def _plain_type(self) -> str:
        tag = self._peek()
        if tag in _BASIC_TYPES:
            self._at += 1
            return _BASIC_TYPES[tag]
        if tag in _REFERENCES:
            self._at += 1
            if self._skip("L"):
                self._number()
            return _REFERENCES[tag] + self._type()
        if self._skip("S"):
            return f"[{self._type()}]"
        if self._skip("B"):
            return self._earlier(self._type)
        return self.path()

    def _earlier(self, read: Callable[[], str]) -> str:
        target = self._number()
        if target >= self._at:
            raise _UnknownGrammarError
        back, self._at = self._at, target
        text = read()
        self._at = back
        return text

    def _identifier(self) -> str:
        if self._skip("s"):
            self._number()
        if self._peek() == "u":
            raise _UnknownGrammarError
        start = self._at
        while self._peek().isdigit() and self._at - start < 4:
            self._at += 1
        length = int(self._text[start : self._at] or "-1")
        self._skip("_")
        name = self._text[self._at : self._at + length]
        if length < 0 or len(name) != length:
            raise _UnknownGrammarError
        self._at += length
        return name

    def _number(self) -> int:
        """``<base-62-number>``: ``_`` is 0, ``0_`` is 1."""
        if self._skip("_"):
            return 0
        value = 0
        while not self._skip("_"):
            digit = _DIGITS.find(self._next())
            if digit < 0 or value > 1 << 100:
                raise _UnknownGrammarError
            value = value * 62 + digit
        return value + 1


def readable(name: str) -> str:
    """The Rust path of a mangled name; any other name unchanged."""
    if not name.startswith("_R"):
        return name
    try:
        return _Reader(name[2:]).path()
    except _UnknownGrammarError:
        return name
