"""Every setting has a default and a sentence, and a wrong one is named with the way out."""

from pathlib import Path

import pytest

from serve.settings import BadSetting, ServeSettings, read_settings, variable

DEFAULTS: dict[str, object] = {
    "model_dir": Path("/opt/ml/model"),
    "host": "0.0.0.0",
    "port": 8080,
    "engine": "openvino",
    "device": "cpu",
    "precision": "auto",
    "threads": 0,
    "top_k": 5,
    "max_batch": 8,
    "max_wait_ms": 0.0,
    "queue": 256,
    "timeout_s": 30.0,
    "max_body_mb": 25.0,
    "max_megapixels": 100.0,
    "max_items": 1000,
}
OTHER = {
    "model_dir": ("/model.tar.gz", Path("/model.tar.gz")),
    "host": ("127.0.0.1", "127.0.0.1"),
    "port": ("9000", 9000),
    "engine": ("torch", "torch"),
    "device": ("cuda", "cuda"),
    "precision": ("bf16", "bf16"),
    "threads": ("3", 3),
    "top_k": ("1", 1),
    "max_batch": ("64", 64),
    "max_wait_ms": ("2.5", 2.5),
    "queue": ("7", 7),
    "timeout_s": ("0.5", 0.5),
    "max_body_mb": ("6", 6.0),
    "max_megapixels": ("12.5", 12.5),
    "max_items": ("10", 10),
}


def test_the_defaults_are_these() -> None:
    assert read_settings({}).model_dump() == DEFAULTS


@pytest.mark.parametrize("field", DEFAULTS)
def test_each_setting_is_read_from_its_variable(field: str) -> None:
    text, value = OTHER[field]
    environ = {variable(field): text} | ({"SERVE_ENGINE": "torch"} if field == "device" else {})
    assert getattr(read_settings(environ), field) == value


@pytest.mark.parametrize("field", ServeSettings.model_fields)
def test_every_setting_has_a_sentence_for_people(field: str) -> None:
    description = ServeSettings.model_fields[field].description
    assert description
    assert description.endswith(".")


def test_the_port_has_the_name_that_sagemaker_gives_it() -> None:
    assert variable("port") == "SAGEMAKER_BIND_TO_PORT"
    sentence = r"Unknown setting SERVE_PORT\. Did you mean SAGEMAKER_BIND_TO_PORT\?"
    with pytest.raises(BadSetting, match=sentence):
        read_settings({"SERVE_PORT": "9000"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SERVE_TIMEOUT", r"Did you mean SERVE_TIMEOUT_S\?"),
        ("SERVE_MAX_BATCH_SIZE", r"Did you mean SERVE_MAX_BATCH\?"),
        ("SERVE_XYZZY_QUUX", r"Known: SERVE_MODEL_DIR, .*SAGEMAKER_BIND_TO_PORT"),
        ("SERVE_", "Known: "),
        ("SERVE_top_k", r"Did you mean SERVE_TOP_K\?"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BadSetting, match=hint):
        read_settings({name: "1"})


def test_variables_of_others_are_no_business_of_ours() -> None:
    assert read_settings({"SM_HOSTS": "x", "SERVER_SOFTWARE": "y", "PATH": "/"}) == ServeSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "99999"),
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SERVE_ENGINE", "onnx"),
        ("SERVE_DEVICE", "tpu"),
        ("SERVE_PRECISION", "int4"),
        ("SERVE_THREADS", "-1"),
        ("SERVE_TOP_K", "0"),
        ("SERVE_TOP_K", "2.5"),
        ("SERVE_TOP_K", ""),
        ("SERVE_MAX_BATCH", "0"),
        ("SERVE_MAX_WAIT_MS", "-1"),
        ("SERVE_QUEUE", "0"),
        ("SERVE_TIMEOUT_S", "0"),
        ("SERVE_TIMEOUT_S", "nan"),
        ("SERVE_MAX_BODY_MB", "0"),
        ("SERVE_MAX_BODY_MB", "inf"),
        ("SERVE_MAX_MEGAPIXELS", "nan"),
        ("SERVE_MAX_ITEMS", "0"),
    ],
    ids=lambda text: text or "empty",
)
def test_an_unusable_value_is_named_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=rf"^{name}='{value}': Input should be .*\.$"):
        read_settings({name: value})


def test_a_gpu_needs_the_engine_that_can_use_it() -> None:
    with pytest.raises(BadSetting, match=r"^SERVE_DEVICE=cuda needs SERVE_ENGINE=torch\.$"):
        read_settings({"SERVE_DEVICE": "cuda"})
    assert read_settings({"SERVE_DEVICE": "cuda", "SERVE_ENGINE": "torch"}).device == "cuda"
