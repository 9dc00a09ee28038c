"""What `kennel transform` asks SageMaker for, besides the model."""

from scripts.call import Call, Request
from scripts.hosting.bodies import JSON, RAW
from scripts.hosting.instance_types import GPU_TRANSFORM_AMI, has_gpu
from scripts.project import Project

# A request's megabytes times requests at a time may be this at most.
MOST_MB_AT_ONCE = 100
MOST_PHOTO_MB = 25  # as the server is set
ANSWER_WITHIN_S, RETRIES = 60, 3


def transform_request(
    project: Project, name: str, model: str, source: str, concurrency: int | None = None
) -> Call:
    """Each object under the S3 prefix `source` is one request. `concurrency`: requests at a time
    to one instance; None: as many as the container says it takes."""
    deploy = project.settings.deploy
    resources: Request = {"InstanceType": deploy.instance, "InstanceCount": deploy.instances}
    if has_gpu(deploy.instance):
        resources["TransformAmiVersion"] = GPU_TRANSFORM_AMI
    at_once: Request = {}
    if concurrency is not None:
        payload_mb = max(1, min(MOST_PHOTO_MB, MOST_MB_AT_ONCE // concurrency))
        at_once = {"MaxConcurrentTransforms": concurrency, "MaxPayloadInMB": payload_mb}
    request = {
        "TransformJobName": name,
        "ModelName": model,
        **at_once,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": ANSWER_WITHIN_S,
            "InvocationsMaxRetries": RETRIES,
        },
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
            "ContentType": RAW,
            "CompressionType": "None",
            "SplitType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": project.uri("transform", name, "output"),
            "Accept": JSON,
            "AssembleWith": "None",
        },
        "TransformResources": resources,
        "Tags": project.tags,
    }
    return Call("sagemaker", "CreateTransformJob", request)
