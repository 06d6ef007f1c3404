"""Published nights for the analysts' lake: Delta tables on an object store or a disk.

The warehouse itself lies on a file system that all nodes share, for a publish is the rename of a link. From there a
night is delivered: its files are copied as they are, and one commit makes them the partition `as_of=D` of a Delta table
in place of those it had. Storage is reached through `deltalake` alone, an optional dependency, whose credentials and
endpoints come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL ...) and never from the configuration.
"""

from importlib.util import find_spec

from halflife.errors import ConfigError

if find_spec("deltalake") is None:
    raise ConfigError("a delivery needs the package deltalake, which is not installed: see conf/requirements-lake.txt")
