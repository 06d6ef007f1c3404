"""One table of a lake: a Delta table, partitioned by night.

A commit is the next file of the table's log, made only where there is none of that number: by a conditional PUT
(If-None-Match) on S3, an exclusive link on a disk, a rename on HDFS. So one of two writers wins, and a reader, who
takes what the log lists, sees a night before a commit or after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake._internal import DeltaFileSystemHandler
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from halflife import crash
from halflife.config import DeliverConfig
from halflife.delivery.files import PARTITION, copy
from halflife.errors import AuditError, ConfigError, PublishConflictError, StorageError
from halflife.warehouse import Stored
from halflife.warehouse.layout import ID

HOURS_A_DAY = 24
WAREHOUSE = "halflife.warehouse"


class LostError(PublishConflictError):
    """Another commit came in between."""


class LakeTable:
    """The Delta table at an address, which need not exist yet."""

    def __init__(self, address: str) -> None:
        """Look at the table as it is now. Raises StorageError where the store does not answer."""
        self.address = address
        self._table: DeltaTable | None = None
        self.refresh()

    def refresh(self) -> None:
        """Look at the table again."""
        with _in_words(self.address):
            try:
                self._table = DeltaTable(self.address)
            except TableNotFoundError:
                self._table = None
        self._list()

    def _list(self) -> None:
        """`files`: of each night, the path of each file and its bytes."""
        self.files: dict[date, dict[str, int]] = {}
        if self._table is not None:
            active = pa.table(self._table.get_add_actions(flatten=True))
            columns = (active[name].to_pylist() for name in (f"partition.{PARTITION}", "path", "size_bytes"))
            for night, path, size in zip(*columns, strict=True):
                self.files.setdefault(night, {})[path] = size

    def copy(self, file: Stored, night: date) -> AddAction:
        """Copy a published file into the table's folder; see `files.copy`."""
        with _in_words(self.address):
            return copy(file, night, DeltaFileSystemHandler(self.address))

    def discard(self, paths: Iterable[str]) -> None:
        """Remove copies that no commit lists."""
        with _in_words(self.address):
            store = DeltaFileSystemHandler(self.address)
            for path in paths:
                store.delete_file(path)

    @property
    def warehouse(self) -> str | None:
        """The id of the warehouse whose table this is: the first that has delivered to it."""
        return None if self._table is None else self._table.metadata().configuration.get(WAREHOUSE) or None

    def must_be_of(self, warehouse: str) -> None:
        """Raises ConfigError where this is another warehouse's table: each would replace the other's nights."""
        if self.warehouse not in (None, warehouse):
            raise ConfigError(
                f"deliver.to: {self.address} is that of another warehouse ({self.warehouse}); name another folder, or, "
                f"where this one takes its place, write that id into the file {ID} in this warehouse"
            )

    def create(self, name: str, schema: pa.Schema, replaced_days: int, warehouse: str) -> None:
        """Make the table where there is none, or give it the columns that it lacks, and the time that is kept.

        Raises AuditError where a column has another type there, ConfigError where it is another warehouse's. Columns of
        the table that `schema` lacks are null.
        """
        wanted = delta_schema(schema)
        try:
            self._fit(name, wanted, replaced_days, warehouse)
        except LostError:  # another did it at the same moment
            self.refresh()
            self._fit(name, wanted, replaced_days, warehouse)

    def _fit(self, name: str, wanted: Schema, replaced_days: int, warehouse: str) -> None:
        self.must_be_of(warehouse)
        keep = f"interval {replaced_days} days"
        kept = {"delta.deletedFileRetentionDuration": keep, "delta.logRetentionDuration": keep}
        kept["delta.checkpointInterval"] = "10"  # a reader fetches each later entry of the log by itself
        kept[WAREHOUSE] = warehouse
        with _in_words(self.address):
            if self._table is None:
                self._table = DeltaTable.create(
                    self.address,
                    wanted,
                    "ignore",
                    partition_by=[PARTITION],
                    name=name,
                    configuration=kept,
                    raise_if_key_not_exists=False,  # WAREHOUSE is a property of ours
                )
                self._list()  # another may have made it, and delivered, since
                self.must_be_of(warehouse)
            if not kept.items() <= self._table.metadata().configuration.items():
                self._table.alter.set_table_properties(kept, raise_if_not_exists=False)
                self.refresh()
        known = {field.name: field for field in self._table.schema().fields}
        for field in wanted.fields:
            if field.name in known and known[field.name].type != field.type:
                raise AuditError(
                    f"{self.address}: {field.name} is {known[field.name].type} there and {field.type} tonight; "
                    "name another folder in deliver.to"
                )
        if new := [field for field in wanted.fields if field.name not in known]:
            with _in_words(self.address):
                self._table.alter.add_columns(new)
            self.refresh()

    def commit(self, night: date, add: Iterable[AddAction], remove: Iterable[str], run_id: str) -> None:
        """In one step, let files go and bring others in, as the night's next version.

        Raises LostError where the table changed since `refresh` in a way that may concern this: two deliveries of one
        night always do, since both are its next version.
        """
        assert self._table is not None
        gone, now = set(remove), int(time.time() * 1000)
        removed = [
            RemoveAction(path, True, now, size, {PARTITION: of.isoformat()})
            for of, files in self.files.items()
            for path, size in files.items()
            if path in gone
        ]
        name = f"halflife as_of={night}"
        version = (self._table.transaction_version(name) or 0) + 1
        properties = CommitProperties(
            custom_metadata={"halflifeRun": run_id}, app_transactions=[Transaction(name, version)]
        )
        with _in_words(self.address):
            self._table.create_write_transaction(
                [*add, *removed], "append", self._table.schema(), [PARTITION], commit_properties=properties
            )
        self._list()

    def vacuum(self, replaced_days: int, remove: bool) -> list[str]:
        """Files that no commit lists any more since so many days, or that none ever listed; removes them if told to.

        A removal makes a checkpoint. Entries of the log, which tell the least and the greatest user id of each file, go
        at the first removal that comes `deliver.replaced_days` after the checkpoint that stands for them.
        """
        if self._table is None:
            return []
        with _in_words(self.address):
            hours, store = replaced_days * HOURS_A_DAY, DeltaFileSystemHandler(self.address)
            named = self._table.vacuum(hours, enforce_retention_duration=False, full=True)
            # Those that are gone already are named as long as the log tells of them.
            there = [info.path for info in store.get_file_info(named) if info.is_file]
            if remove:
                self._table.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
                crash.point("vacuum: files removed")
                self.refresh()
                self._table.create_checkpoint()
                crash.point("vacuum: checkpoint made")
                self._table.cleanup_metadata()
            return there


def lakes(config: DeliverConfig) -> dict[str, LakeTable]:
    """The tables of the lake by their names. Raises ConfigError where none is named."""
    if config.to is None:
        raise ConfigError("deliver.to: name the lake's folder, s3://bucket/prefix say")
    root = config.to if "://" in config.to else str(Path(config.to).resolve())
    return {table: LakeTable(f"{root.rstrip('/')}/{table}") for table in config.tables}


def delta_schema(schema: pa.Schema) -> Schema:
    """The columns of a published table and the night, as Delta has them; each may be null, as a later column must be.

    Raises AuditError for a type that Delta does not have.
    """
    for field in schema:
        for kind in _kinds(field.type):
            if pa.types.is_unsigned_integer(kind):
                raise AuditError(
                    f"{field.name}: Delta has no {kind}; deliver scores with score.encoding rounded or float32"
                )
    fields = [field.with_nullable(True).remove_metadata() for field in schema]
    return Schema.from_arrow(pa.schema([*fields, pa.field(PARTITION, pa.date32())]))


def _kinds(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type, and those of the lists, maps and structs in it."""
    yield kind
    if pa.types.is_nested(kind):
        for place in range(kind.num_fields):
            yield from _kinds(kind.field(place).type)


@contextmanager
def _in_words(address: str) -> Iterator[None]:
    """Say what a store or its log did not take, in one line without its markup."""
    try:
        yield
    except CommitFailedError as error:
        raise LostError(f"{address}: another changed it meanwhile; nothing was changed; run again") from error
    except (DeltaError, OSError) as error:
        cause = " ".join(str(error).replace("\x1b[31m↳\x1b[0m", "").split())[:500]
        raise StorageError(
            f"{address}: {cause}; mend that, or the credentials in the environment, and run again"
        ) from error
