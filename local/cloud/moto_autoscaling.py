"""moto's Application Auto Scaling, made to delete a target's policies with the target.

So the model of DeregisterScalableTarget says of AWS; moto keeps them.
"""

from importlib.metadata import version as version_of
from typing import Any

from moto.applicationautoscaling.models import (
    ApplicationAutoscalingBackend,
    applicationautoscaling_backends,
)

from local.cloud.moto_s3 import MotoChanged

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
PROBE = "endpoint/kennel-probe/variant/a"


def forget_policies() -> None:
    """From now on. Once in a process and before any request. Raises MotoChanged."""
    deregister = ApplicationAutoscalingBackend.deregister_scalable_target

    def deregister_with_policies(
        backend: ApplicationAutoscalingBackend, namespace: str, r_id: str, dimension: str
    ) -> None:
        deregister(backend, namespace, r_id, dimension)
        for policy in list(backend.policies.values()):
            place = (policy.service_namespace, policy.resource_id, policy.scalable_dimension)
            if place == (namespace, r_id, dimension):
                backend.delete_scaling_policy(policy.policy_name, *place)

    kind: Any = ApplicationAutoscalingBackend
    kind.deregister_scalable_target = deregister_with_policies
    check()


def check() -> None:
    """Has moto make a target with a policy, and sees both go. Raises MotoChanged."""
    backend = applicationautoscaling_backends["000000000000"]["us-east-1"]
    body = {"TargetValue": 1.0}
    try:
        backend.register_scalable_target("sagemaker", PROBE, DIMENSION, 1, 1, "", "")
        backend.put_scaling_policy(
            "probe", "sagemaker", PROBE, DIMENSION, body, "TargetTrackingScaling"
        )
        made = len(backend.policies)
        backend.deregister_scalable_target("sagemaker", PROBE, DIMENSION)
        gone = (made, len(backend.policies)) == (1, 0)
    except (AttributeError, KeyError, TypeError, ValueError):
        gone = False
    if not gone:
        raise MotoChanged(
            f"moto {version_of('moto')} keeps its scaling policies in another way than the one "
            "this was made for. Install the release that docker/requirements names."
        )
