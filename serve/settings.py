"""Every setting of the server, read once from the environment and checked."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PREFIX = "SERVE_"


class BadSetting(Exception):
    """A setting can't be used; the sentence names it, its value and the way out."""


class ServeSettings(BaseModel):
    """Each field is the variable SERVE_<FIELD>, but for the port, whose name is SageMaker's."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model_dir: Path = Field(
        Path("/opt/ml/model"), description="The folder with the unpacked model, or model.tar.gz."
    )
    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(
        8080,
        ge=0,
        le=65535,
        description="TCP port; SageMaker sets it when containers share a host.",
    )
    engine: Literal["openvino", "torch"] = Field(
        "openvino", description="openvino (CPU) or torch (CPU or CUDA)."
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="cuda needs the torch engine and a GPU; there is no silent fallback."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the processor computes it natively, else fp32."
    )
    threads: int = Field(0, ge=0, description="Threads of the engine; 0: all cores it may use.")
    top_k: int = Field(5, ge=1, description="Classes in an answer, most probable first.")
    max_batch: int = Field(8, ge=1, le=1024, description="Photos in one call of the network.")
    max_wait_ms: float = Field(
        0.0, ge=0, le=1000, description="How long a batch waits for more photos, ms."
    )
    queue: int = Field(
        256, ge=1, description="Photos that may be inside; more are refused with 503."
    )
    timeout_s: float = Field(30.0, gt=0, le=3600, description="Seconds to an answer, else 504.")
    max_body_mb: float = Field(25.0, gt=0, description="Largest request body, MB (10^6 bytes).")
    max_megapixels: float = Field(
        100.0,
        gt=0,
        description="Largest photo, 10^6 pixels; a quarter for all but JPEG.",
    )
    max_items: int = Field(1000, ge=1, description="Most photos in one request.")

    @model_validator(mode="after")
    def _cuda_needs_torch(self) -> Self:
        if self.device == "cuda" and self.engine != "torch":
            raise ValueError("SERVE_DEVICE=cuda needs SERVE_ENGINE=torch")
        return self


def variable(field: str) -> str:
    """The environment variable of a field."""
    return "SAGEMAKER_BIND_TO_PORT" if field == "port" else f"{PREFIX}{field.upper()}"


def read_settings(environ: Mapping[str, str] = os.environ) -> ServeSettings:
    """The settings of this process, or BadSetting for an unknown name or an unusable value."""
    fields = {variable(field): field for field in ServeSettings.model_fields}
    for name in environ:
        if name.startswith(PREFIX) and name not in fields:
            meant = name.removeprefix(PREFIX).lower()
            near = difflib.get_close_matches(meant, ServeSettings.model_fields, n=1)
            hint = f"Did you mean {variable(near[0])}?" if near else f"Known: {', '.join(fields)}."
            raise BadSetting(f"Unknown setting {name}. {hint}")
    values = {field: environ[name] for name, field in fields.items() if name in environ}
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        raise BadSetting(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ") + "."
    return f"{variable(str(first['loc'][0]))}={first['input']!r}: {first['msg']}."
