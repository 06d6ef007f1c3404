"""What the README shows is true of the code."""

from __future__ import annotations

import re
from pathlib import Path

from halflife import config, schemas, warehouse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_config_for_an_own_log_is_valid(tmp_path: Path) -> None:
    example = "".join(re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL))  # one config, in pieces
    path = tmp_path / "shop.yaml"
    path.write_text(example.replace("extends: base.yaml", f"extends: {ROOT / 'conf' / 'base.yaml'}"))
    loaded = config.load(path)
    assert set(loaded.event_types) == {"view", "cart", "purchase", "cancel", "play"}


def test_the_overrides_that_it_shows_are_accepted() -> None:
    shown = re.findall(r"--set (\S+=[^\s`]+)", README)
    assert shown
    config.load(ROOT / "conf" / "local.yaml", shown)


def test_every_table_stands_with_exactly_its_columns() -> None:
    rows = dict(re.findall(r"^\| (\w+) \| [^|]+ \| ([^|]+) \|$", README, flags=re.MULTILINE))
    for table in set(warehouse.JOB_OF) - {"models", "users", "items", "evaluation", "reports"}:
        shown = re.findall(r"\b[a-z]+(?:_[a-z0-9]+)*\b", re.sub(r":[^,]*|score = .*", "", rows[table]))
        assert [name for name in shown if name in warehouse.schema_of(table).names] == warehouse.schema_of(table).names
    assert f"{', '.join(schemas.USERS.names)}; {', '.join(schemas.ITEMS.names)} |" in README


def test_every_path_that_it_names_exists() -> None:
    named = re.findall(r"\]\((\w[\w/.]+)\)", README) + re.findall(
        r"^((?:lib|jobs|conf|scripts)/[\w/.]*)", README, flags=re.M
    )
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
