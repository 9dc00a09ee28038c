"""What tests of status, logs and down share: a project's things on a local SageMaker."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.local.hosting import SERVE, await_status
from tests.local.probe import PROBE
from tests.local.running import ROLE, Running, program, sagemaker, training_request

BUCKET = "kennel-sagemaker-us-east-1-123456789012"


@contextmanager
def tiny_sagemaker(folder: Path) -> Iterator[Running]:
    """With programs of a few lines in place of the images."""
    images = {
        "kennel-train": program(folder / "train", "train", PROBE),
        "kennel-serve": program(folder / "serve", "serve", SERVE),
    }
    with sagemaker(folder, images=images) as running:
        yield running


class Owner:
    """Somebody whose things are named and tagged as `project`'s."""

    def __init__(self, running: Running, project: str = "kennel") -> None:
        self.running, self.project = running, project
        self.sagemaker = running.client("sagemaker")
        running.bucket(BUCKET)
        self.tags = [{"Key": "kennel:project", "Value": project}]

    def train(self, name: str, **hyperparameters: str) -> str:
        request = training_request(
            f"{self.project}-train-{name}",
            "kennel-train",
            f"s3://{BUCKET}/{self.project}",
            HyperParameters=hyperparameters,
            Tags=self.tags,
        )
        self.sagemaker.create_training_job(**request)
        return str(request["TrainingJobName"])

    def tune(self, name: str, **hyperparameters: str) -> str:
        full = f"{self.project}-tune-{name}"
        request = training_request("any", "kennel-train", f"s3://{BUCKET}/{self.project}")
        del request["TrainingJobName"]
        metrics = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
        request["AlgorithmSpecification"]["MetricDefinitions"] = metrics
        self.sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=full,
            HyperParameterTuningJobConfig={
                "Strategy": "Random",
                "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
                "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 2},
                "ParameterRanges": {
                    "ContinuousParameterRanges": [
                        {"Name": "lr", "MinValue": "0.1", "MaxValue": "0.2"}
                    ]
                },
            },
            TrainingJobDefinition={**request, "StaticHyperParameters": hyperparameters},
            Tags=self.tags,
        )
        return full

    def model(self, name: str = "1", **environment: str) -> str:
        full = f"{self.project}-model-{name}"
        self.sagemaker.create_model(
            ModelName=full,
            PrimaryContainer={"Image": "kennel-serve", "Environment": environment},
            ExecutionRoleArn=ROLE,
            Tags=self.tags,
        )
        return full

    def config(self, model: str, name: str = "1") -> str:
        full = f"{self.project}-conf-{name}"
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=full,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": model,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            Tags=self.tags,
        )
        return full

    def endpoint(self, name: str = "", *, wait: bool = True, **environment: str) -> str:
        """With its model and configuration, its alarm, and from 1 to 4 instances."""
        full, part = name or self.project, name or "1"
        config = self.config(self.model(part, **environment), part)
        self.sagemaker.create_endpoint(EndpointName=full, EndpointConfigName=config, Tags=self.tags)
        self._alarm(full)
        self.running.client("application-autoscaling").register_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId=f"endpoint/{full}/variant/AllTraffic",
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
            MinCapacity=1,
            MaxCapacity=4,
        )
        if wait:
            await_status(self.sagemaker, full)
        return full

    def photos(self, count: int, prefix: str = "photos/train/red") -> None:
        s3 = self.running.client("s3")
        for index in range(count):
            s3.put_object(
                Bucket=BUCKET, Key=f"{self.project}/{prefix}/{index}.jpg", Body=b"x" * 1000
            )

    def repository(self, name: str) -> None:
        ecr = self.running.client("ecr")
        ecr.create_repository(repositoryName=name, tags=self.tags)
        ecr.put_image(repositoryName=name, imageManifest=manifest(name), imageTag="latest")

    def jobs(self) -> dict[str, str]:
        """States of all training jobs that are named as this project's, by name."""
        listed = self.sagemaker.list_training_jobs(NameContains=f"{self.project}-", MaxResults=100)[
            "TrainingJobSummaries"
        ]
        return {job["TrainingJobName"]: job["TrainingJobStatus"] for job in listed}

    def await_jobs(self, state: str, count: int) -> None:
        """Until so many are in that state; the test's timeout is the only clock."""
        while list((jobs := self.jobs()).values()).count(state) < count:
            assert "Failed" not in jobs.values(), jobs
            time.sleep(0.05)

    def _alarm(self, endpoint: str) -> None:
        alarm: dict[str, Any] = {
            "AlarmName": f"{endpoint}-5xx",
            "Namespace": "AWS/SageMaker",
            "MetricName": "Invocation5XXErrors",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 0.05,
            "ComparisonOperator": "GreaterThanThreshold",
            "Tags": self.tags,
        }
        self.running.client("cloudwatch").put_metric_alarm(**alarm)


def manifest(seed: str) -> str:
    """Of an image with one layer; nobody looks at what is in it."""
    digest = "sha256:" + seed.encode().hex().ljust(64, "0")[:64]
    return f"""{{
      "schemaVersion": 2,
      "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
      "config": {{
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 7023, "digest": "{digest}"
      }},
      "layers": [{{
        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "size": 32654, "digest": "{digest}"
      }}]
    }}"""
