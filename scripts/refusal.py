"""What ends a verb with one sentence for people in place of a traceback."""


class Refusal(Exception):
    """It can't be done or has failed; the sentence names the thing, the value and the way out."""
