"""What has become of a write that failed? Either nothing was done, or nobody knows, and the error says which.

A refusal means that nothing was done, and so does a connection that never came about. What was sent, and whose answer
did not come, may have been carried out all the same; so may what is answered with a fault: a leader that loses its lead
has handed the entry on, and does not learn whether the others took it in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from app.core.errors import BackendError, ServerFault, UnexpectedAnswer, VaultUnreachable
from app.core.transport.network_errors import was_sent
from app.core.vault.errors import is_own_fault

NOTHING_SENT = "nothing was sent"
NOT_KNOWN = "whether it was written is not known"
LOOK = "Read it before you write it again, or repeat the write with the same cas."


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Have an error of the write in the block say what has become of it; refusals say so as they are."""
    try:
        yield
    except VaultUnreachable as error:
        sent = was_sent(error)
        raise _saying(error, subject, NOT_KNOWN if sent else NOTHING_SENT, may_be_done=sent) from error.__cause__
    except BackendError as error:
        if not is_own_fault(error) and not isinstance(error, ServerFault | UnexpectedAnswer):
            raise
        raise _saying(error, subject, NOT_KNOWN, may_be_done=True) from None


def _saying(error: BackendError, subject: str, outcome: str, *, may_be_done: bool) -> BackendError:
    said = copy(error)  # several threads may have got the same one, of a login
    said.cause = f"{error.cause}; {outcome} ({subject})"
    said.remedy = f"{error.remedy} {LOOK}" if may_be_done else error.remedy
    said.may_be_done = may_be_done
    return said
