"""What an instance type computes with, and so which of our images runs there."""

import re

from scripts.project import Image, Project
from scripts.refusal import Refusal

GRAVITON = re.compile(r"[a-z]+\d+g[a-z]*|p6e-gb\d+")
NVIDIA = re.compile(r"(g|gr|p)\d[a-z]*(-[a-z]+\d+)?")
OTHER = re.compile(r"(inf|trn|dl)\d.*")
BEFORE_CUDA_13 = ("p2", "p3", "p3dn")
# The image is built for CUDA 13, which needs driver 580; all defaults of AWS are older.
GPU_ENDPOINT_AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
# The newest there is for batch transform: driver 535.
GPU_TRANSFORM_AMI = "al2-ami-sagemaker-batch-gpu-535"


def image_for(project: Project, instance: str) -> Image:
    """The image for a type such as ml.g5.xlarge. Raises Refusal where none of ours runs."""
    family = instance.split(".")[1]
    on_arm = project.settings.images.platform == "linux/arm64"
    if family in BEFORE_CUDA_13:
        raise Refusal(
            f"{instance}: CUDA 13, which the image has, is not for its GPU. Use ml.g4dn, ml.g5 or "
            "newer."
        )
    if OTHER.fullmatch(family):
        raise Refusal(
            f"{instance} has an accelerator that none of the images uses. Use a CPU (ml.m5, "
            "ml.c7i) or an NVIDIA GPU (ml.g4dn, ml.g5)."
        )
    if GRAVITON.fullmatch(family):
        if not on_arm or NVIDIA.fullmatch(family):
            raise Refusal(
                f"{instance} has ARM processors, and the image is for "
                f"{project.settings.images.platform}. Use another type (ml.m5, ml.c7i), or build "
                'for it: platform = "linux/arm64" under [images].'
            )
        return "serve"
    if on_arm:
        raise Refusal(
            f"{instance} has no ARM processor, for which the images are (platform = "
            '"linux/arm64" under [images]). Use a Graviton type (ml.c7g, ml.m6g), or build for '
            "linux/amd64."
        )
    return "serve_gpu" if has_gpu(instance) else "serve"


def image_for_transform(project: Project, instance: str) -> Image:
    """The same for a batch transform job. Raises Refusal."""
    if GRAVITON.fullmatch(instance.split(".")[1]):
        raise Refusal(
            f"{instance} has ARM processors, which batch transform does not offer. Name another "
            "type: --instance ml.m5.large, with images for linux/amd64."
        )
    return image_for(project, instance)


def has_gpu(instance: str) -> bool:
    return bool(NVIDIA.fullmatch(instance.split(".")[1]))
