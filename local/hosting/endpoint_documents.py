"""What DescribeEndpoint tells of an endpoint's configuration, variants and deployment."""

import time
from collections.abc import Mapping
from typing import Any

from local.hosting import models
from local.hosting.serving import only_container
from local.runners.runner import CannotRun
from local.runtime import capture
from local.site import Site
from local.store import Document

RETAINED = ("DesiredInstanceCount", "DesiredWeight", "DataCaptureConfig")


def in_force(site: Site, config: Document) -> Document:
    """A configuration with its models, so that the endpoint outlives both. Raises Refused."""
    names = {variant["ModelName"] for variant in config["ProductionVariants"]}
    found = {name: models.find(site, name) for name in names}
    if config.get("EnableNetworkIsolation"):
        for model in found.values():
            model["EnableNetworkIsolation"] = True
    return config | {"_Models": found}


def retaining(config: Document, before: Document, excluded: set[str]) -> Document:
    """A new configuration with the variants' numbers and the capture of the one before."""
    numbers = {variant["VariantName"]: variant for variant in before["ProductionVariants"]}
    variants = []
    for variant in config["ProductionVariants"]:
        old = numbers.get(variant["VariantName"], {})
        kept = {
            member: old[member]
            for member, kind in (
                ("InitialInstanceCount", "DesiredInstanceCount"),
                ("InitialVariantWeight", "DesiredWeight"),
            )
            # Serverless variants have no count.
            if kind not in excluded and member in old and member in variant
        }
        variants.append(variant | kept)
    config = config | {"ProductionVariants": variants}
    if "DataCaptureConfig" not in excluded:
        config.pop("DataCaptureConfig", None)
        if "DataCaptureConfig" in before:
            config["DataCaptureConfig"] = before["DataCaptureConfig"]
    return config


def served(site: Site, config: Document) -> Document:
    """The members of DescribeEndpoint that tell of the configuration that is served."""
    return {
        "EndpointConfigName": config["EndpointConfigName"],
        "ProductionVariants": [
            _variant(site, variant, config["_Models"][variant["ModelName"]])
            for variant in config["ProductionVariants"]
        ],
        "DataCaptureConfig": capture.summary(config),
        "AsyncInferenceConfig": config.get("AsyncInferenceConfig"),
        "MetricsConfig": config.get("MetricsConfig"),
    }


def pending(config: Document) -> Document:
    """The PendingDeploymentSummary of a deployment that begins."""
    return {
        "EndpointConfigName": config["EndpointConfigName"],
        "StartTime": time.time(),
        "ProductionVariants": [
            {
                "VariantName": variant["VariantName"],
                "DesiredWeight": variant["InitialVariantWeight"],
                "DesiredInstanceCount": variant.get("InitialInstanceCount"),
                "InstanceType": variant.get("InstanceType"),
                "DesiredServerlessConfig": variant.get("ServerlessConfig"),
                "RoutingConfig": variant.get("RoutingConfig"),
                "VariantStatus": [{"Status": "Creating", "StartTime": time.time()}],
            }
            for variant in config["ProductionVariants"]
        ],
    }


def enter_stage(document: Document, stage: str) -> None:
    """The pending deployment's variants: Creating, ActivatingTraffic, Baking."""
    for variant in document.get("PendingDeploymentSummary", {}).get("ProductionVariants", []):
        variant["VariantStatus"] = [{"Status": stage, "StartTime": time.time()}]


def desire(document: Document, wanted: Mapping[str, Document]) -> None:
    """The numbers that UpdateEndpointWeightsAndCapacities asks for."""
    for variant in document["ProductionVariants"]:
        variant.update(wanted.get(variant["VariantName"], {}))


def settle(document: Document) -> None:
    """What was desired is so."""
    configured = {v["VariantName"]: v for v in document["_Config"]["ProductionVariants"]}
    for variant in document["ProductionVariants"]:
        settings = configured[variant["VariantName"]]
        settings["InitialVariantWeight"] = variant["CurrentWeight"] = variant["DesiredWeight"]
        if "DesiredInstanceCount" in variant:
            count = variant["DesiredInstanceCount"]
            settings["InitialInstanceCount"] = variant["CurrentInstanceCount"] = count
        if "DesiredServerlessConfig" in variant:
            config = variant["DesiredServerlessConfig"]
            settings["ServerlessConfig"] = variant["CurrentServerlessConfig"] = config


def revert(document: Document) -> None:
    """What was desired is not so, and no longer desired."""
    for variant in document["ProductionVariants"]:
        for member in ("Weight", "InstanceCount", "ServerlessConfig"):
            if f"Current{member}" in variant:
                variant[f"Desired{member}"] = variant[f"Current{member}"]


def _variant(site: Site, settings: Document, model: Document) -> dict[str, Any]:
    weight = settings["InitialVariantWeight"]
    summary = {
        "VariantName": settings["VariantName"],
        "DeployedImages": [_image(site, only_container(model)["Image"])],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "RoutingConfig": settings.get("RoutingConfig"),
    }
    if serverless := settings.get("ServerlessConfig"):
        return summary | {
            "CurrentInstanceCount": 0,  # as AWS tells of serverless variants
            "CurrentServerlessConfig": serverless,
            "DesiredServerlessConfig": serverless,
        }
    count = settings["InitialInstanceCount"]
    return summary | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}


def _image(site: Site, image: str) -> Document:
    try:
        resolved = site.runner.resolve(image)
    except CannotRun:  # removed since its container started
        resolved = image
    return {"SpecifiedImage": image, "ResolvedImage": resolved, "ResolutionTime": time.time()}
