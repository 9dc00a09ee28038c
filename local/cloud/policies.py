"""Whether IAM policies allow an action on a resource, as AWS evaluates identity policies.

moto's own evaluator denies where a condition is not met and knows no `?`, so it is not used.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

Statement = Mapping[str, Any]
Context = Mapping[str, Sequence[str]]  # condition keys in lower case, with their values


class Decision(Enum):
    """As SimulatePrincipalPolicy spells them."""

    ALLOWED = "allowed"
    IMPLICIT_DENY = "implicitDeny"
    EXPLICIT_DENY = "explicitDeny"


class UnknownCondition(Exception):
    """A condition operator that is not evaluated here; the sentence names it."""


@dataclass(frozen=True)
class Verdict:
    """`missing`: condition keys that statements on this action need and nobody gave."""

    decision: Decision
    missing: tuple[str, ...]


def evaluate(
    statements: Iterable[Statement], action: str, resource: str, context: Context
) -> Verdict:
    """A Deny wins over any Allow; what nothing allows is denied. Raises UnknownCondition."""
    decision, missing = Decision.IMPLICIT_DENY, dict[str, None]()
    for statement in statements:
        if not _concerns(statement, "Action", action, ignore_case=True):
            continue
        if not _concerns(statement, "Resource", resource):
            continue
        missing |= dict.fromkeys(_missing(statement, context))
        if not _meets(statement, context):
            continue
        if statement["Effect"] == "Deny":
            return Verdict(Decision.EXPLICIT_DENY, tuple(missing))
        decision = Decision.ALLOWED
    return Verdict(decision, tuple(missing))


def bounded(verdict: Verdict, boundary: Verdict) -> Verdict:
    """With a permissions boundary, both have to allow."""
    missing = (*verdict.missing, *boundary.missing)
    for decision in (Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY):
        if decision in (verdict.decision, boundary.decision):
            return Verdict(decision, missing)
    return Verdict(Decision.ALLOWED, missing)


def statements_of(document: Mapping[str, Any]) -> list[Statement]:
    return _as_list(document["Statement"])


def _concerns(statement: Statement, element: str, value: str, ignore_case: bool = False) -> bool:
    negated = f"Not{element}"
    patterns = _as_list(statement[negated] if negated in statement else statement[element])
    matched = any(_pattern(pattern, ignore_case).fullmatch(value) for pattern in patterns)
    return matched != (negated in statement)


@lru_cache(maxsize=4096)
def _pattern(text: str, ignore_case: bool) -> re.Pattern[str]:
    """`*` is any text, `?` one character, all else itself."""
    regex = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(regex, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _conditions(statement: Statement) -> Iterable[tuple[str, str, list[str]]]:
    for operator, keys in statement.get("Condition", {}).items():
        for key, wanted in keys.items():
            yield operator, key, [_text(value) for value in _as_list(wanted)]


def _missing(statement: Statement, context: Context) -> list[str]:
    """Keys without which a condition can't be met."""
    return [
        key
        for operator, key, _ in _conditions(statement)
        if key.lower() not in context and operator != "Null" and not operator.endswith("IfExists")
    ]


def _meets(statement: Statement, context: Context) -> bool:
    return all(
        _is_met(operator, wanted, context.get(key.lower()))
        for operator, key, wanted in _conditions(statement)
    )


def _is_met(operator: str, wanted: Sequence[str], given: Sequence[str] | None) -> bool:
    if operator == "Null":
        return (given is None) == (wanted[0] == "true")
    name = operator.removesuffix("IfExists")
    if name not in OPERATORS:
        raise UnknownCondition(
            f"The local IAM does not evaluate the condition operator {operator}. It evaluates "
            f"Null, {', '.join(OPERATORS)}, also with IfExists."
        )
    matches, negated = OPERATORS[name]
    if given is None:
        return negated or operator.endswith("IfExists")
    matched = any(matches(pattern, value) for value in given for pattern in wanted)
    return matched != negated


def _equal(wanted: str, given: str) -> bool:
    return wanted == given


def _equal_ignoring_case(wanted: str, given: str) -> bool:
    return wanted.lower() == given.lower()


def _like(wanted: str, given: str) -> bool:
    return bool(_pattern(wanted, False).fullmatch(given))


# The comparison of one wanted with one given value, and whether its opposite is asked.
OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equal_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_like, False),
    "ArnNotEquals": (_like, True),
    "ArnLike": (_like, False),
    "ArnNotLike": (_like, True),
    "Bool": (_equal_ignoring_case, False),
}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
