"""Which objects hold secrets and must not be pickled, or copied by way of it?"""

from typing import NoReturn


class NotSerializable:
    """Refuses `pickle`, and `copy` where a class has no way of its own: a cache or a queue would spread the secrets."""

    __slots__ = ()

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled or copied")
