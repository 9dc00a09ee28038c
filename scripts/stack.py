"""The clients of AWS. Where they lead is told by the SDK's own variables: to AWS, or to the local
SageMaker (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SAGEMAKER, AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME)."""

import threading
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import S3TransferRetriesExceededError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from scripts.refusal import Refusal

# Of S3's transfers, for which boto3 has errors of its own.
TRANSFER_ERRORS = (Boto3Error, S3TransferRetriesExceededError)
AWS_ERRORS = (BotoCoreError, ClientError, *TRANSFER_ERRORS)  # all that the clients raise
S3_CONNECTIONS = 32
STANDARD = Config(retries={"mode": "standard", "max_attempts": 5})
CONFIGS = {
    "s3": STANDARD.merge(Config(max_pool_connections=S3_CONNECTIONS)),
    # Nobody waits for a price: where the list can't be reached, it is not known.
    "pricing": Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 0}),
    # A model may take up to 60 s to answer; asking again by itself would only add to its work.
    "sagemaker-runtime": Config(
        read_timeout=70, retries={"max_attempts": 0}, max_pool_connections=256
    ),
}


class Stack:
    """Clients made when they are first used, one of each; threads may share them.

    Without a region or a profile, they are as the SDK finds them.
    """

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        self._region, self._profile = region, profile
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._lock = threading.Lock()

    @property
    def region(self) -> str | None:
        """The clients' region; None if nothing names one."""
        with self._lock:
            name: str | None = self._the_session().region_name
        return name

    def client(self, service: str, region: str | None = None) -> Any:
        """A client by botocore's name of the service; `region` for those that are not in all.
        Raises Refusal for an AWS_ENDPOINT_URL that is no address."""
        with self._lock:
            key = (service, region)
            if key not in self._clients:
                self._clients[key] = self._new_client(service, region)
            return self._clients[key]

    @property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @property
    def s3(self) -> Any:
        return self.client("s3")

    @property
    def logs(self) -> Any:
        return self.client("logs")

    def _new_client(self, service: str, region: str | None) -> Any:
        config = CONFIGS.get(service, STANDARD)
        try:
            return self._the_session().client(service, region_name=region, config=config)
        except ValueError as error:
            if isinstance(error, BotoCoreError):
                raise
            own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
            raise Refusal(
                f"{error}. Write http://HOST:PORT in AWS_ENDPOINT_URL or {own} (endpoint_url in "
                "AWS's configuration), or unset it."
            ) from None

    def _the_session(self) -> Any:
        if self._session is None:
            self._session = boto3.Session(region_name=self._region, profile_name=self._profile)
        return self._session
