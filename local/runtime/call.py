"""One request on its way to a container: counted and captured when it has its answer."""

import time
from dataclasses import dataclass, field

from local.hosting.fleet import Place
from local.hosting.live_endpoint import LiveEndpoint
from local.runtime.capture import Event, Message
from local.runtime.invocation_metrics import Invocation
from local.runtime.invoke_request import Asked


@dataclass(frozen=True)
class Call:
    """`began_s` is when this server heard of it, `sent_s` when it goes to the container."""

    live: LiveEndpoint
    asked: Asked
    place: Place
    began_s: float
    sent_s: float = field(default_factory=time.perf_counter)

    def count(self, status: int) -> None:
        """With the container's status, or NO_STATUS."""
        invocation = Invocation(
            variant=self.place.variant,
            config_name=self.place.fleet.config_name,
            status=status,
            model_s=time.perf_counter() - self.sent_s,
            overhead_s=self.sent_s - self.began_s,
        )
        self.live.metrics.add(invocation)

    def capture(self, answered: Message) -> None:
        """Of a call that is one of the sample."""
        event = Event(
            variant=self.place.variant,
            asked=Message(self.asked.content_type, self.asked.body),
            answered=answered,
            inference_id=self.asked.inference_id,
        )
        self.place.fleet.capture.add(event)

    def give_back(self) -> None:
        self.live.routes.give_back(self.place)
