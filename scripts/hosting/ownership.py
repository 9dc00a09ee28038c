"""What is this project's: names may be alike, so that its tag tells."""

from scripts.project import TAG, Project
from scripts.stack import Stack


def is_ours(stack: Stack, project: Project, arn: str) -> bool:
    """Whether a thing of SageMaker's has the project's tag."""
    pages = stack.sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
    tags = {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
    return tags.get(TAG) == project.name
