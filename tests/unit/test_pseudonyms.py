"""Pseudonyms are HMACs of a key that shows nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from halflife import config as configuration
from halflife import pseudonyms
from halflife.errors import ConfigError
from halflife.pseudonyms import Pseudonyms

LOCAL = Path(__file__).parents[2] / "conf" / "local.yaml"


def test_a_pseudonym_is_the_hmac_of_rfc_4231() -> None:
    # Test cases 1 and 2 of the RFC; `openssl dgst -sha256 -hmac KEY` gives the same.
    assert Pseudonyms(b"\x0b" * 20).of("Hi There") == (
        "hmac-b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    )
    assert (
        Pseudonyms(b"Jefe").of("what do ya want for nothing?")
        == "hmac-5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_key_shows_in_no_representation_and_its_id_is_that_of_the_key_alone() -> None:
    one, other = Pseudonyms(b"1" * 32), Pseudonyms(b"2" * 32)
    assert "1111" not in f"{one} {one!r} {one.key_id}"
    assert one.key_id != other.key_id
    assert one.key_id == Pseudonyms(b"1" * 32).key_id


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"short\n", "holds 5 bytes, a key has 32")]
)
def test_a_key_that_is_none_is_refused_by_its_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"pseudonyms\.key_file: .*{message}") as caught:
        pseudonyms.configured(configuration.load(LOCAL, [f"pseudonyms.key_file={path}"]))
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_binary_key_keeps_all_its_bytes(tmp_path: Path, end: bytes) -> None:
    key = b" " * 30 + b"\n\t"
    (tmp_path / "key").write_bytes(key + end)
    assert pseudonyms.configured(configuration.load(LOCAL, [f"pseudonyms.key_file={tmp_path}/key"])) == Pseudonyms(key)


def test_a_key_within_the_warehouse_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "key").write_text("k" * 32)
    (tmp_path / "link").symlink_to("tables")
    for path in (tmp_path / "tables" / "key", tmp_path / "link" / "key"):
        overrides = [f"warehouse={tmp_path}/tables", f"pseudonyms.key_file={path}"]
        with pytest.raises(ConfigError, match=r"pseudonyms\.key_file: .* lies in the warehouse"):
            pseudonyms.configured(configuration.load(LOCAL, overrides))


def test_a_user_is_asked_for_by_id_or_by_pseudonym(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 32 + "\n")
    config = configuration.load(LOCAL, [f"pseudonyms.key_file={tmp_path}/key"])
    known = pseudonyms.configured(config)
    assert known == Pseudonyms(b"k" * 32)
    assert pseudonyms.stored_id(config, "ann") == known.of("ann")
    assert pseudonyms.stored_id(config, "ab" * 32) == known.of("ab" * 32)
    (tmp_path / "key").unlink()  # who has the pseudonym needs no key
    assert pseudonyms.stored_id(config, known.of("ann")) == known.of("ann")
    assert pseudonyms.stored_id(configuration.load(LOCAL), "ann") == "ann"
