"""What kennel.toml names, as AWS names it: images, role, bucket, places in S3, new names."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from botocore.loaders import create_loader

from scripts.refusal import Refusal
from scripts.settings import Settings
from scripts.stack import Stack

TAG = "kennel:project"
PUSHED = Path(".kennel") / "images.json"
ARN = re.compile(r"^arn:(aws[a-z-]*):iam::(\d{12}):role/")
Image = Literal["train", "serve", "serve_gpu"]


@dataclass(frozen=True)
class Project:
    """All of it is plain data: nothing here asks AWS."""

    settings: Settings
    account: str
    region: str

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def partition(self) -> str:
        """aws, or that of China, of the US government and so on."""
        return str(self._partition["id"])

    @property
    def role_arn(self) -> str:
        role = self.settings.aws.role
        if role.startswith("arn:"):
            return role
        return f"arn:{self.partition}:iam::{self.account}:role/{role}"

    @property
    def bucket(self) -> str:
        # AmazonSageMakerFullAccess reaches only buckets whose names hold "sagemaker".
        return self.settings.aws.bucket or f"{self.name}-sagemaker-{self.region}-{self.account}"

    def uri(self, *parts: str) -> str:
        """A place of this project in its bucket: s3://BUCKET/NAME/PART/PART."""
        return "/".join((f"s3://{self.bucket}/{self.name}", *parts))

    @property
    def photos(self) -> str:
        """Where train/, valid/ and test/ lie; ends without a slash."""
        return self.uri(self.settings.data.prefix)

    @property
    def registry(self) -> str:
        """The host that images are pushed to and named by."""
        suffix = self._partition["outputs"]["dnsSuffix"]
        return self.settings.images.registry or f"{self.account}.dkr.ecr.{self.region}.{suffix}"

    def repository(self, image: Image) -> str:
        name: str = getattr(self.settings.images, image)
        return name

    def image(self, image: Image) -> str:
        """As requests name it: by the digest of the last push from this folder, else by the tag."""
        tagged = f"{self.registry}/{self.repository(image)}:{self.settings.images.tag}"
        return self.pushed.get(tagged, tagged)

    @cached_property
    def pushed(self) -> dict[str, str]:
        """Tagged name → name by digest, of what `kennel images push` pushed from this folder."""
        if not PUSHED.exists():
            return {}
        try:
            found = json.loads(PUSHED.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Refusal(f"{PUSHED} can't be read ({error}). Remove it, and push again.") from None
        if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
            raise Refusal(f"{PUSHED} holds no names of images. Remove it, and push again.")
        return found

    @property
    def endpoint(self) -> str:
        return self.settings.deploy.endpoint or self.name

    @property
    def tags(self) -> list[dict[str, str]]:
        """By which everything made for this project is found again, and billed."""
        return [{"Key": TAG, "Value": self.name}]

    def new_name(self, kind: str, now: datetime | None = None) -> str:
        """NAME-kind-date-time (UTC), at most 32 characters for kinds of up to 5 letters."""
        return f"{self.name}-{kind}-{(now or datetime.now(UTC)):%y%m%d-%H%M%S}"

    @cached_property
    def _partition(self) -> Mapping[str, Any]:
        """As botocore's own table has it. Raises Refusal."""
        for partition in create_loader().load_data("partitions")["partitions"]:
            if re.match(partition["regionRegex"], self.region):
                known: Mapping[str, Any] = partition
                return known
        raise Refusal(
            f"'{self.region}' is no region that botocore knows. Mend aws.region or --region, or "
            "bring a newer one: pip install --upgrade boto3."
        )


def find_project(settings: Settings, stack: Stack) -> Project:
    """Asks STS for the account only if neither kennel.toml nor the role's ARN names it."""
    region = stack.region
    if not region:
        raise Refusal(
            "No AWS region is named. Set aws.region in kennel.toml, --region, or AWS_REGION; on "
            'this machine: eval "$(kennel local env)".'
        )
    arn = ARN.match(settings.aws.role)
    account = settings.aws.account or (arn.group(2) if arn else "")
    if not account:
        account = stack.client("sts").get_caller_identity()["Account"]
    return Project(settings, account, region)
