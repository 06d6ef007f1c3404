"""Text that is shown: a terminal obeys nothing that an id or a file's name holds, and secrets are left out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Final

# Control characters drive a terminal and begin new lines of a log; marks of direction let a text pass for another.
ACTIVE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HIDDEN: Final = "***"
# In a name. PWD and OLDPWD are folders.
SECRET: Final = (
    r"token(?!i[sz])|secret|passw|(?<!^)(?<!^old)pwd|sig(?:nature)?\b|credential|private|connection_?string"
    r"|_key\b|(?:api|access|account)[-.]?key"
)
# What stands before the last @ of a URL, where the colon is not that of a port and the @ not that of a container of
# Azure's; and parameters that are secrets by their name.
IN_URL: Final = re.compile(
    rf"""(?<=://) [^\s"'/:?#\[]* : (?!\d{{1,5}}(?:[/?#]|$)) (?:(?!://)[^\s"'])* (?=@)
    | (?<=://) (?<!abfs://) (?<!abfss://) (?<!wasb://) (?<!wasbs://) [^\s"'/?#]+ (?=@)
    | (?<=[?&#;]) (?P<name>(?i:[^=&\s]* (?:{SECRET}) [^=&\s]* =)) [^&\s"']+""",
    re.VERBOSE,
)
SHORTEST_SECRET: Final = 8  # characters: anything shorter stands in many a word


def escaped(text: str) -> str:
    r"""A text in one line, each active character written as an escape such as \n or \x1b."""
    return ACTIVE.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


def redacted(text: str) -> str:
    """A text without the credentials in its URLs, and without the values of environment variables that are secrets."""
    return _without(text, _secrets())


def redacted_tree(tree: Any) -> Any:
    """The same for all text in what JSON can hold."""
    return _tree_without(tree, _secrets())


def _tree_without(tree: Any, secrets: Sequence[str]) -> Any:
    if isinstance(tree, dict):
        return {name: _tree_without(value, secrets) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_tree_without(value, secrets) for value in tree]
    return _without(tree, secrets) if isinstance(tree, str) else tree


def _without(text: str, secrets: Sequence[str]) -> str:
    text = IN_URL.sub(lambda found: (found["name"] or "") + HIDDEN, text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def _secrets() -> list[str]:
    """The values of environment variables whose names say that they are secrets."""
    named = [value for name, value in os.environ.items() if re.search(SECRET, name, re.IGNORECASE)]
    files = {value for value in named if value.startswith("/") and os.access(value, os.F_OK)}  # a key's: no secret
    return [value for value in named if len(value) >= SHORTEST_SECRET and value not in files]
