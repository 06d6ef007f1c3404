"""What a cluster gives to each job."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from halflife.config.section import PositiveInt, Section
from halflife.escapes import SECRET

Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")]  # as Spark writes it: 512m, 8g

# Properties that say where a secret is, and hold none.
REFERENCES = r"secretKeyRef\.|\.secrets\.|[fF]ile$"


class ExecutorsConfig(Section):
    """The executors of the jobs that Spark gives more or fewer of them while they run."""

    cores: PositiveInt = Field(default=4, description="of an executor")
    cores_per_task: PositiveInt = Field(default=1, description="of them for each task; more leave a task more memory")
    memory: Memory = Field(default="8g", description="of an executor's JVM")
    python_memory: Memory = Field(default="8g", description="of an executor's Python workers: encoding, block products")
    at_least: Annotated[int, Field(ge=0)] = Field(default=1, description="executors kept while there is nothing to do")
    at_most: PositiveInt = Field(default=20, description="executors when there is much to do")

    @property
    def tasks(self) -> int:
        """How many tasks run at once where there are as many executors as may be."""
        return self.at_most * (self.cores // self.cores_per_task)

    @model_validator(mode="after")
    def _room_for_a_task(self) -> ExecutorsConfig:
        if self.cores_per_task > self.cores:
            raise ValueError(f"cores_per_task: {self.cores_per_task} are more than the {self.cores} of an executor")
        if self.at_least > self.at_most:
            raise ValueError(f"at_least: {self.at_least} executors are more than at_most: {self.at_most}")
        return self


class RanksConfig(Section):
    """The executors of a training: fixed, and all there before its first step."""

    ranks_per_executor: PositiveInt = 1
    cores_per_rank: PositiveInt = Field(default=1, description="a rank computes on one, its feed reads on another")
    gpus_per_rank: Annotated[int, Field(ge=0, le=1)] = 0
    memory: Memory = Field(default="4g", description="of an executor's JVM")
    python_memory: Memory = Field(default="8g", description="of an executor's ranks")


class ClusterConfig(Section):
    """Where scripts/submit --env cluster runs the jobs; without it they run on this machine."""

    master: str | None = Field(
        default=None,
        pattern=r"^(spark://[^\s/]+|yarn|k8s://\S+)$",
        description="spark://host:7077, yarn (HADOOP_CONF_DIR says where) or k8s://https://host:443",
    )
    driver_host: str | None = Field(
        default=None, min_length=1, description="name or address by which executors reach the machine that submits"
    )
    driver_memory: Memory = "8g"
    packages: str = Field(default="dist", min_length=1, description="folder of the files that scripts/package makes")
    python: str | None = Field(
        default=None,
        min_length=1,
        description="bin/python of the environment where every node has it unpacked, in an image or a shared folder; "
        "null: each executor fetches and unpacks the archive",
    )
    executors: ExecutorsConfig = ExecutorsConfig()
    jobs: dict[Literal["sessionize", "score", "evaluate"], ExecutorsConfig] = Field(
        default={}, description="executors of single jobs, in place of `executors`"
    )
    train: RanksConfig = RanksConfig()
    conf: dict[str, str] = Field(default={}, description="further Spark properties: a queue, an image, a namespace")

    @field_validator("conf", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: str(found).lower() if isinstance(found, bool) else str(found) for key, found in value.items()}

    @field_validator("conf", mode="after")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:  # every process list would show it
            if re.search(SECRET, key, re.IGNORECASE) and not re.search(REFERENCES, key):
                raise ValueError(f"{key}: a secret does not belong here; give it by the environment (see the README)")
        return value
