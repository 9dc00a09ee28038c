"""Looks at everything that a job needs, before a job costs money."""

from functools import partial

from rich.console import Console
from rich.markup import escape

from scripts.account.aws_checks import (
    check_account,
    check_bucket,
    check_credentials,
    check_region,
)
from scripts.account.findings import Finding, State, answered, unknown
from scripts.account.image_checks import check_images
from scripts.account.own_checks import (
    check_docker,
    check_hyperparameters,
    check_metrics,
    check_names,
    check_ranges,
    check_rules,
)
from scripts.account.quota_checks import check_quotas
from scripts.account.rights_checks import check_caller_rights, check_role, check_role_rights
from scripts.project import find_project
from scripts.session import Session

SIGNS = {
    State.OK: "[green]✓[/]",
    State.WARNING: "[yellow]![/]",
    State.PROBLEM: "[red]✗[/]",
    State.UNKNOWN: "[blue]?[/]",
}


def doctor(session: Session, *, offline: bool = False) -> list[Finding]:
    """All checks, in the order in which one would mend what they find; `offline`: only those that
    ask nobody."""
    settings, region = session.settings, session.stack.region
    findings = [
        *answered("hyperparameters", partial(check_hyperparameters, settings)),
        *answered("tuning", partial(check_ranges, settings)),
        check_metrics(settings),
        *answered("debugger", partial(check_rules, settings, region)),
        check_docker(),
    ]
    return findings if offline else [*findings, *_ask_aws(session)]


def show_findings(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        console.print(f"{SIGNS[finding.state]} {finding.check}: {escape(finding.sentence)}")
        for line in finding.way_out.splitlines():
            console.print(f"    {escape(line)}", style="dim")
    counts = {state: sum(one.state == state for one in findings) for state in State}
    told = [f"{count} {state}" for state, count in counts.items() if count]
    console.print(f"{len(findings)} checks: {', '.join(told)}.")


def _ask_aws(session: Session) -> list[Finding]:
    stack = session.stack
    credentials, arn = check_credentials(stack)
    if not arn:
        return [credentials, unknown("AWS", "Nothing else was asked without credentials.")]
    project = find_project(session.settings, stack)
    account = check_account(project, arn)
    if account.state != State.OK:
        return [credentials, account, unknown("AWS", "Nothing else was asked of this account.")]
    region = answered("region", partial(check_region, stack, project))
    if region[0].state == State.PROBLEM:
        return [credentials, account, *region]
    role = answered("role", partial(check_role, stack, project))
    if all(finding.state == State.OK for finding in role):
        role += answered("role's rights", partial(check_role_rights, stack, project))
    return [
        credentials,
        account,
        check_names(project),
        *region,
        *role,
        *answered("your rights", partial(check_caller_rights, stack, project, arn)),
        *answered("bucket", partial(check_bucket, stack, project)),
        *answered("quotas", partial(check_quotas, stack, project)),
        *answered("images", partial(check_images, stack, project)),
    ]
