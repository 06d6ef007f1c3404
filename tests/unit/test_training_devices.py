"""A rank's GPU: Spark's choice, where it makes one."""

from __future__ import annotations

import pytest
from horovod.spark.task import task_info
from pyspark.resource import ResourceInformation

from halflife.errors import ConfigError
from halflife.training.devices import assigned_gpus, gpu_of


def test_what_horovod_hands_on_of_sparks_choice_is_the_rank_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(assigned_gpus()) == []
    monkeypatch.setattr(task_info._info, "resources", {"gpu": ResourceInformation("gpu", ["3"])})
    assert gpu_of(gpus=4, local_rank=0, local_size=2, assigned=assigned_gpus()) == 3


def test_without_sparks_choice_it_is_the_one_of_the_rank_s_number() -> None:
    assert [gpu_of(2, rank, 2, []) for rank in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("local_size", "assigned", "said"),
    [
        (3, [], r"train\.ranks: 3 ranks on .* 2 GPUs"),
        (1, ["2"], "assigned GPU '2' .* sees 0 to 1"),
        (1, ["GPU-7d0c"], "the worker's discovery script has to tell their numbers"),
    ],
)
def test_a_gpu_that_is_not_there_is_said(local_size: int, assigned: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        gpu_of(2, 0, local_size, assigned)
