"""A request whose answer may be lost on its way: SageMaker may have begun all the same."""

from collections.abc import Callable
from contextlib import ExitStack

from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from scripts.aws_errors import sentence
from scripts.call import Call
from scripts.refusal import Refusal
from scripts.session import Session


def send_or_undo(
    session: Session, call: Call, undo: ExitStack, is_under_way: Callable[[], bool], may_run: str
) -> None:
    """Sends the request that begins what costs money. What was made for it is left to `undo` only
    if SageMaker has not heard it; `may_run` is said if SageMaker can't be asked about that."""
    try:
        call.send(session.stack)
    except KeyboardInterrupt:
        undo.pop_all()  # SageMaker may have heard it
        raise
    except (BotoCoreError, ClientError) as error:
        # The SDK sends it again after a lost answer, and is refused then: the name is taken.
        try:
            heard = is_under_way()
        except (BotoCoreError, ClientError):
            undo.pop_all()
            raise Refusal(
                f"{sentence(error)} SageMaker may have heard it, and can't be asked now: {may_run}"
            ) from None
        if not heard:
            raise
        session.console.print(
            escape(f"The answer to {call.operation} was lost, but SageMaker has begun."),
            style="yellow",
        )
    undo.pop_all()
