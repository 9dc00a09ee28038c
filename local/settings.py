"""What the local SageMaker is told when it starts."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ACCOUNT = "123456789012"  # what moto's STS answers
RunnerName = Literal["docker", "process"]


class LocalSettings(BaseModel):
    """Chosen once, at start; `kennel local status` shows them."""

    model_config = ConfigDict(frozen=True)

    home: Path = Field(description="Folder that holds everything: jobs, models, S3 objects.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        4510, ge=0, le=65535, description="Port of SageMaker and its runtime; 0: any free one."
    )
    aws_port: int = Field(
        4511, ge=0, le=65535, description="Port of S3, ECR, STS, IAM, CloudWatch; 0: any free one."
    )
    runner: Literal["auto", "docker", "process"] = Field(
        "auto", description="auto: docker where an engine answers, else process."
    )
    region: str = Field("us-east-1", description="Region that names and ARNs carry.")
    images: Mapping[str, Path] = Field(
        default_factory=dict,
        description="For the process runner: image name → folder with its programs train, serve.",
    )

    @property
    def database(self) -> Path:
        return self.home / "kennel.sqlite"

    @property
    def s3(self) -> Path:
        return self.home / "s3"

    @property
    def jobs(self) -> Path:
        """A folder per job, transform or endpoint: its trees while it runs."""
        return self.home / "jobs"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def arn(self, kind: str, name: str) -> str:
        """As AWS forms it, for example of ("training-job", "dogs-1")."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name.lower()}"


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """KENNEL_HOME, else ~/.kennel."""
    return Path(environ.get("KENNEL_HOME") or Path.home() / ".kennel")
