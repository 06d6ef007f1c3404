"""Text that is shown: what an id or a file's name holds is read, and never obeyed by a terminal or a log."""

from __future__ import annotations

import re

# Control characters drive a terminal and begin new lines of a log; marks of direction let a text pass for another.
ACTIVE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    r"""A text in one line, each active character written as an escape such as \n or \x1b."""
    return ACTIVE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)
