"""Placement: which device is meant, which dtype, and what is said of a model that does not fit, on machines that nobody has here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from steernode.errors import ModelError
from steernode.placement import (
    GIB,
    Device,
    Weights,
    check_fit,
    choose_devices,
    choose_dtype,
    choose_queue,
    estimate_weights,
    parse_devices,
    spread_blocks,
)

CPU = Device("cpu", "EPYC", "cpu", 64 * GIB, 40 * GIB)
FIRST = Device("cuda:0", "H200", "GPU-a", 140 * GIB, 100 * GIB)
SECOND = Device("cuda:1", "H200", "GPU-b", 140 * GIB, 60 * GIB)
OLD = replace(FIRST, title="V100", dtypes=frozenset({"float32", "float16"}))
MACHINE = (CPU, FIRST, SECOND)
SEVENTY = Weights(70 * 10**9)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda:0", "cuda:12", "cuda:0,cuda:1", "cuda:1, cuda:0"])
def test_a_device_is_named_as_people_name_it(text):
    assert ",".join(parse_devices(text)) == text.replace(" ", "")


WRONG = ["", "gpu", "cuda", "cuda:", "cuda:01", "cuda:-1", "cpu,cuda:0", "auto,auto", "cuda:0,cuda:0", "cuda:0,", "CUDA:0", "mps"]


@pytest.mark.parametrize("text", WRONG)
def test_any_other_device_is_refused(text):
    with pytest.raises(ModelError) as refused:
        parse_devices(text)
    assert refused.value.code == "DEVICE_FORMAT"


def test_auto_is_the_first_gpu_that_nobody_has_and_the_cpu_only_where_there_is_none():
    assert choose_devices(("auto",), MACHINE) == (FIRST,)
    assert choose_devices(("auto",), MACHINE, taken={"GPU-a"}) == (SECOND,)
    assert choose_devices(("auto",), (CPU,)) == (CPU,)
    with pytest.raises(ModelError, match="each of the 2 GPUs") as refused:
        choose_devices(("auto",), MACHINE, taken={"GPU-a", "GPU-b"})
    assert refused.value.code == "DEVICE_TAKEN"


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ModelError, match="there is no cuda:2 here; there are cpu, cuda:0, cuda:1") as refused:
        choose_devices(("cuda:2",), MACHINE)
    assert refused.value.code == "DEVICE_MISSING"


def test_a_gpu_that_has_a_worker_is_refused():
    with pytest.raises(ModelError, match=r"cuda:1 \(H200\) has a worker") as refused:
        choose_devices(("cuda:0", "cuda:1"), MACHINE, taken={"GPU-b"})
    assert refused.value.code == "DEVICE_TAKEN"


@pytest.mark.parametrize(
    ("wanted", "own", "meant"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float32", "float32"),
        ("auto", "float16", "float32"),
        ("float16", "bfloat16", "float16"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_a_model_keeps_bfloat16_and_float16_is_run_only_when_asked_for(wanted, own, meant):
    assert choose_dtype(wanted, own) == meant


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ModelError) as refused:
        choose_dtype("int4", "float32")
    assert refused.value.code == "MODEL_DTYPE"


def test_a_model_too_large_is_told_what_would_fit():
    with pytest.raises(ModelError) as refused:
        check_fit(SEVENTY, "float32", (FIRST,), (CPU, FIRST, replace(SECOND, free_bytes=None)))
    assert refused.value.code == "MODEL_TOO_LARGE"
    for words in ("286.8 GiB", "143.4 GiB in bfloat16", "cpu has 40.0 GiB free of 64.0 GiB", "cuda:1 has 140.0 GiB in all"):
        assert words in refused.value.message
    check_fit(SEVENTY, "bfloat16", (FIRST, SECOND), MACHINE)


def test_a_dtype_that_the_device_lacks_is_refused_with_those_it_has():
    with pytest.raises(ModelError, match="float16, float32") as refused:
        check_fit(Weights(1), "bfloat16", (OLD,), (CPU, OLD))
    assert refused.value.code == "DTYPE_UNSUPPORTED"


def test_numbers_take_the_dtype_and_the_rest_stays_as_it_is():
    assert Weights(1000, 10).bytes_in("float32") == 4010
    assert Weights(1000, 10).bytes_in("bfloat16") == 2010


def test_blocks_go_to_devices_in_order_by_the_room_that_each_has():
    assert spread_blocks([10] * 8, 0, 0, [50, 50]) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert spread_blocks([10] * 8, 0, 0, [75, 25]) == [0, 0, 0, 0, 0, 0, 1, 1]
    assert spread_blocks([10] * 4, 40, 40, [100, 100]) == [0, 0, 1, 1]
    assert spread_blocks([10] * 6, 0, 0, [1, 1, 1]) == [0, 0, 1, 1, 2, 2]


def test_a_record_says_about_how_large_a_model_is():
    files = [{"name": "model.safetensors", "bytes": 4000}, {"name": "config.json", "bytes": 9}]
    assert estimate_weights({"dtype": "bfloat16", "files": files}).bytes_in("float32") == 8000
    assert estimate_weights({"dtype": "float32", "files": files}).bytes_in("bfloat16") == 2000
    assert estimate_weights({}).bytes_in("float32") == 0


def test_a_job_goes_to_the_smallest_queue_it_fits():
    queues = [("large", 80), ("small", 16)]
    assert choose_queue(10 * GIB, queues, "steerhub") == "small"
    assert choose_queue(17 * GIB, queues, "steerhub") == "large"
    assert choose_queue(200 * GIB, queues, "steerhub") == "large"
    assert choose_queue(200 * GIB, [], "steerhub") == "steerhub"
