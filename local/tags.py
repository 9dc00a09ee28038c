"""The operations on tags, which any job, model, endpoint or configuration may carry."""

from local.site import Site
from local.store import Document
from local.wire import invalid

MOST = 50
# By the kind in an ARN, the store's kind is the same.
KINDS = (
    "training-job",
    "hyper-parameter-tuning-job",
    "model",
    "endpoint-config",
    "endpoint",
    "transform-job",
)


class Tags:
    def __init__(self, site: Site) -> None:
        self._site = site

    def add(self, request: Document) -> Document:
        arn = self._known(request["ResourceArn"])
        before = {tag["Key"] for tag in self._site.store.tags(arn)}
        if len(before | {tag["Key"] for tag in request["Tags"]}) > MOST:
            raise invalid(f"{arn} would have more than {MOST} tags.")
        self._site.store.add_tags(arn, request["Tags"])
        return {"Tags": self._site.store.tags(arn)}

    def list(self, request: Document) -> Document:
        return {"Tags": self._site.store.tags(self._known(request["ResourceArn"]))}

    def delete(self, request: Document) -> Document:
        self._site.store.delete_tags(self._known(request["ResourceArn"]), request["TagKeys"])
        return {}

    def _known(self, arn: str) -> str:
        """Names in ARNs are lower case. Raises Refused."""
        kind, _, name = arn.partition("sagemaker:")[2].split(":", 2)[-1].partition("/")
        if kind in KINDS:
            for document in self._site.store.all(kind):
                known = self._site.settings.arn(kind, _name(document, kind))
                if known == arn or known.endswith(f":{kind}/{name.lower()}"):
                    return known
        raise invalid(f"Could not find resource {arn}.")


def _name(document: Document, kind: str) -> str:
    member = {
        "training-job": "TrainingJobName",
        "hyper-parameter-tuning-job": "HyperParameterTuningJobName",
        "model": "ModelName",
        "endpoint-config": "EndpointConfigName",
        "endpoint": "EndpointName",
        "transform-job": "TransformJobName",
    }[kind]
    return str(document[member])
