"""What the options that all subcommands share stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a command needs is imported when it runs: not for a --help
    from halflife.config import Config
    from halflife.warehouse import Warehouse


def configured(options: argparse.Namespace) -> tuple[Config, Warehouse]:
    """The config that `--config` names, and its warehouse. Raises ConfigError where the config is wrong."""
    from halflife import config
    from halflife.warehouse import Warehouse

    loaded = config.load(options.config)
    return loaded, Warehouse(loaded.warehouse)


def warehouse(options: argparse.Namespace) -> Warehouse:
    """The warehouse of the config that `--config` names. Raises ConfigError where the config is wrong."""
    return configured(options)[1]


def user(options: argparse.Namespace) -> str:
    """The id under which the warehouse knows the user of the command line, given by id or by pseudonym."""
    from halflife.pseudonyms import stored_id

    return stored_id(configured(options)[0], options.user)
