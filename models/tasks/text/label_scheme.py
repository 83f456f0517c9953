"""Tells by the labels of neighbouring tokens which of them belong to one entity: BIO, BILOU, BIOES."""

from collections.abc import Sequence

# Prefixes of labels. BIO has the first two; BILOU and BIOES say of the last token, and of an only one, that it is.
BEGIN, INSIDE, LAST, ONLY = {"B"}, {"I", "M"}, {"L", "E"}, {"U", "S"}


class Scheme:
    """Tells by labels which tokens belong together.

    As for transformers, B- begins an entity, and everything else goes on with one of the same kind. Where the labels
    are BILOU's or BIOES's, which transformers does not know, their other prefixes count too.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        prefixes = {label[0] for label in labels if label[1:2] == "-"}
        is_closed = prefixes > BEGIN and prefixes <= BEGIN | INSIDE | LAST | ONLY and bool(prefixes & (LAST | ONLY))
        self.opening = BEGIN | ONLY if is_closed else BEGIN
        self.closing = LAST | ONLY if is_closed else set[str]()
        self.prefixes = BEGIN | INSIDE | LAST | ONLY if is_closed else BEGIN | {"I"}

    def continues(self, before: str, label: str) -> bool:
        """Tell whether a token is of the same entity as the one before it."""
        last_prefix, last_kind = self._split(before)
        prefix, kind = self._split(label)
        return kind == last_kind and prefix not in self.opening and last_prefix not in self.closing

    def _split(self, label: str) -> tuple[str, str]:
        if label[1:2] == "-" and label[0] in self.prefixes:
            return label[0], label[2:]
        return "I", label
