"""The only place that touches stored tables: read, stage, publish.

A job writes its tables into a folder of its run, has them audited there, and publishes them all at once: the
night's link is replaced in one rename (write-audit-publish). Layout under the warehouse root:

    scores/as_of=2017-12-01         -> ../_nights/score/as_of=2017-12-01/scores     what readers open
    _nights/score/as_of=2017-12-01  -> ../../_runs/<run id>                         the one link that is switched
    _runs/<run id>/                    scores/*.parquet, manifest.json; never changed once published
    _staging/<run id>/                 a run that is not published
    _id                                what a lake knows the warehouse by that delivers to it

A table's link is static and goes through the night's link, so all the tables of a job change together, and a
reader that knows nothing of halflife sees the old night or the new one.

A night costs what it brought: files that it does not change are not written again but linked (hard links), so that the
folder of a night is the whole table all the same. Where a file system has no hard links they are copied.
"""

from halflife.warehouse.code import code_version
from halflife.warehouse.layout import FILES, JOB_OF, NIGHTLY, ROW_GROUP_BYTES, TABLES, schema_of
from halflife.warehouse.manifest import digests
from halflife.warehouse.run import Run, Stored
from halflife.warehouse.store import Warehouse
from halflife.warehouse.tolerant import readable

__all__ = [
    "FILES",
    "JOB_OF",
    "NIGHTLY",
    "ROW_GROUP_BYTES",
    "TABLES",
    "Run",
    "Stored",
    "Warehouse",
    "code_version",
    "digests",
    "readable",
    "schema_of",
]
