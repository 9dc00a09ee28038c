"""Checks of SageMaker's quotas, which are 0 for most GPU instances of a new account."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.account.findings import Finding, ok, problem, unknown, warning
from scripts.project import Project
from scripts.settings import Job, Settings
from scripts.stack import Stack

SERVICE = "sagemaker"
PAGE = 100


@dataclass(frozen=True)
class Need:
    """`quota` is AWS's own name of it; `verb`: which command needs it."""

    verb: str
    quota: str
    instances: int


def needs(settings: Settings) -> list[Need]:
    deploy, tune = settings.deploy, settings.tune
    found = [
        Need("train", _of_job(settings.train), settings.train.instances),
        Need("tune", _of_job(tune), tune.instances * tune.parallel),
    ]
    if deploy.kind != "serverless":
        most = max(deploy.instances, deploy.max_instances)
        found.append(Need("deploy", f"{deploy.instance} for endpoint usage", most))
    found.append(Need("transform", f"{deploy.instance} for transform job usage", 1))
    return found


def check_quotas(stack: Stack, project: Project) -> list[Finding]:
    wanted = needs(project.settings)
    quotas = _read(stack, "list_service_quotas")
    if any(need.quota not in quotas for need in wanted):
        # Quotas that were never changed are not always among the applied ones.
        quotas = {**_read(stack, "list_aws_default_service_quotas"), **quotas}
    return [_check(project, need, quotas.get(need.quota)) for need in wanted]


def _of_job(job: Job) -> str:
    return f"{job.instance} for {'spot training' if job.spot else 'training'} job usage"


def _read(stack: Stack, operation: str) -> dict[str, dict[str, Any]]:
    pages = (
        stack.client("service-quotas")
        .get_paginator(operation)
        .paginate(ServiceCode=SERVICE, PaginationConfig={"PageSize": PAGE})
    )
    return {quota["QuotaName"]: quota for page in pages for quota in page["Quotas"]}


def _check(project: Project, need: Need, quota: dict[str, Any] | None) -> Finding:
    check = f"quota for {need.verb}"
    if quota is None:
        return unknown(check, f"AWS lists no quota '{need.quota}'. Is the type right?")
    value = int(quota["Value"])
    if value >= need.instances:
        return ok(check, f"{value} × {need.quota}; {need.instances} needed.")
    # Not everybody runs batch transforms.
    found = warning if need.verb == "transform" else problem
    return found(
        check,
        f"{value} × {need.quota}, but kennel {need.verb} needs {need.instances}.",
        "\n".join(_ways_out(project, need, quota)),
    )


def _ways_out(project: Project, need: Need, quota: dict[str, Any]) -> Sequence[str]:
    code, region = quota["QuotaCode"], project.region
    section = "deploy" if need.verb == "transform" else need.verb
    return (
        f"aws service-quotas request-service-quota-increase --service-code {SERVICE} --quota-code "
        f"{code} --desired-value {need.instances} --region {region}",
        f"or https://{region}.console.aws.amazon.com/servicequotas/home/services/{SERVICE}/quotas/"
        f"{code}",
        f"or another type: `instance` under [{section}] in kennel.toml",
    )
