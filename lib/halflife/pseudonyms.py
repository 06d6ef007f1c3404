"""Pseudonyms of users: HMAC-SHA-256 (RFC 2104) of their ids, with a key that lies in a file outside the warehouse.

The ids are replaced as they are read, so no column of users, manifest or log line of halflife's own holds one. What a
log has of a user elsewhere passes as it is: in event ids, session ids it gives, context columns, and the paths of its
files (`source_file`, the manifest's inputs). Who has the key can tell a user's pseudonym from the id; nobody can tell
the id from the pseudonym but by trying ids with the key.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from halflife.config import Config
from halflife.errors import ConfigError

MIN_KEY_BYTES: Final = 32  # RFC 2104, section 3: no shorter than the digest
PREFIX: Final = "hmac-"  # without it a log's own ids, often digests of something, would look like pseudonyms
PSEUDONYM: Final = re.compile(rf"{PREFIX}[0-9a-f]{{64}}")


@dataclass(frozen=True)
class Pseudonyms:
    """The pseudonyms that a key makes."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """What tells the key from others and says nothing about it: manifests hold this."""
        return sha256(b"halflife key id\0" + PREFIX.encode() + self.key).hexdigest()[:16]

    def of(self, user_id: str) -> str:
        """A user's pseudonym: "hmac-" and 64 hexadecimal digits."""
        return PREFIX + hmac.digest(self.key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def configured(config: Config) -> Pseudonyms | None:
    """The pseudonyms that a config asks for. Raises ConfigError where there is no proper key in its file."""
    if config.pseudonyms is None:
        return None
    path = Path(config.pseudonyms.key_file)
    try:
        key = re.sub(rb"\r?\n\Z", b"", path.read_bytes())  # of an editor's or openssl's; other bytes are the key's
    except (OSError, ValueError) as error:
        raise ConfigError(f"pseudonyms.key_file: {path} cannot be read: {error}") from error
    if path.resolve().is_relative_to(Path(config.warehouse).resolve()):
        raise ConfigError(f"pseudonyms.key_file: {path} lies in the warehouse, whose readers must not have it; move it")
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"pseudonyms.key_file: {path} holds {len(key)} bytes, a key has {MIN_KEY_BYTES} or more: "
            f"openssl rand -hex {MIN_KEY_BYTES} makes one"
        )
    return Pseudonyms(key)


def stored_id(config: Config, user_id: str) -> str:
    """The id under which the warehouse knows a user, who is asked for by id or by pseudonym."""
    if PSEUDONYM.fullmatch(user_id):
        return user_id  # who looks up a pseudonym needs no key
    known = configured(config)
    return user_id if known is None else known.of(user_id)


def meant_ids(config: Config, user_id: str) -> set[str]:
    """All ids under which the warehouse may know a user who must be forgotten; where there are pseudonyms, by the key.

    What looks like a pseudonym may be an id of the log, which has a pseudonym of its own.
    """
    known = configured(config)
    return {user_id if known is None else known.of(user_id), stored_id(config, user_id)}
