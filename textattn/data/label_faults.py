"""What is odd about the labels of a data set, with the setting that mends it."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textattn.config.data_section import DataConfig
from textattn.config.yaml12 import parse_value
from textattn.data.label_column import ADVICE, column_message, kind_of_column
from textattn.data.labels import shortened
from textattn.data.look_alikes import FOLDS, differences, groups_of_look_alikes, stands_for_no_label
from textattn.data.read import Corpus
from textattn.errors import ConfigError, Setting

# Characters of a label from which it is probably no name.
LONG = 100
# Groups and labels that are named in a message.
SHOWN = 5
_PLAIN_IN_YAML = re.compile(r"[A-Za-z_][A-Za-z0-9_ ]*(?<! )")


@dataclass(frozen=True)
class LabelFault:
    """One kind of oddity."""

    kind: str
    message: str
    hint: str
    """A setting that can be pasted, or what to do."""
    count: int
    """Number of labels concerned."""
    examples: list[dict[str, Any]] = field(default_factory=list)


def label_faults(corpus: Corpus, data: DataConfig) -> list[LabelFault]:
    """Labels that look alike, that stand for no label, that hold what no name holds, or that are no classes at all.

    Args:
        data: the settings that the corpus was read with.
    """
    if corpus.train.is_numeric:
        return []
    counts = _counts(corpus)
    groups = groups_of_look_alikes(corpus.labels)
    missing = [label for label in corpus.labels if counts[label] and stands_for_no_label(label)]
    odd = [label for label in corpus.labels if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in label)]
    long = [label for label in corpus.labels if len(label) > LONG]
    renamed: dict[str, str | None] = dict.fromkeys(missing)
    for group in groups:
        best = min(group, key=lambda label: (_is_untidy(label), -counts[label], label != label.casefold()))
        renamed |= {label: best for label in group if label != best and label not in renamed}
    renamed |= {label: " ".join(label.split()) for label in odd if label not in renamed and label not in long}
    # Columns that are labels have the names of the columns, and so have no other.
    hint = "give the columns other names" if not isinstance(data.label, str) else _label_map(renamed, data)
    found = []
    if groups:
        parts = [_shown_group(group, counts) for group in groups[:SHOWN]]
        more = f"; and {len(groups) - SHOWN:,} more groups" if len(groups) > SHOWN else ""
        message = f"labels {'; '.join(parts)}{more}"
        examples = [
            {"labels": group, "counts": [counts[label] for label in group], "differ_in": _differ_in(group)}
            for group in groups[:SHOWN]
        ]
        found.append(LabelFault("look_alike_labels", message, hint, sum(map(len, groups)), examples))
    if missing:
        shown = _listed(missing, counts)
        message = f"{shown} may stand for a missing label, but {_is_a_label(len(missing))}"
        found.append(LabelFault("missing_labels", message, hint, len(missing)))
    if odd:
        message = f"{_listed(odd, counts)}: line breaks, tabs or other control characters in a label"
        found.append(LabelFault("control_characters", message, hint if renamed else "mend the labels", len(odd)))
    if long:
        longest = max(map(len, long))
        message = f"{len(long):,} label{'s' * (len(long) > 1)} of up to {longest:,} characters, {_listed(long, counts)}"
        found.append(LabelFault("long_labels", message, "check that data.label names the right column", len(long)))
    found += _column_fault(corpus)
    return found


def _column_fault(corpus: Corpus) -> list[LabelFault]:
    if corpus.multi_label:
        return []
    occurring = [corpus.labels[i] for i in np.unique(corpus.train.labels)]
    kind = kind_of_column(occurring, len(corpus.train))
    if kind is None:
        return []
    message = f"{column_message(kind, occurring, len(corpus.train))}, and each is learned as a class of its own"
    return [LabelFault("label_column", message, ADVICE[kind], len(occurring))]


def _counts(corpus: Corpus) -> dict[str, int]:
    """Rows of each label, in all splits."""
    total = np.zeros(len(corpus.labels), np.int64)
    for split in corpus.splits().values():
        of_split = split.labels
        total += (
            of_split.sum(axis=0, dtype=np.int64)
            if of_split.ndim == 2
            else np.bincount(of_split, minlength=len(corpus.labels))
        )
    return dict(zip(corpus.labels, total.tolist(), strict=True))


def _is_untidy(label: str) -> bool:
    """Whether a label has what nobody sees: invisible characters, odd white space, decomposed letters."""
    names = ("white space", "invisible characters", "Unicode form (NFC, NFD)")
    return any(FOLDS[name](label) != label for name in names)


def _differ_in(group: list[str]) -> str:
    found = dict.fromkeys(differences(group[0], other) for other in group[1:])
    return " or ".join(found)


def _shown_group(group: list[str], counts: dict[str, int]) -> str:
    # repr shows both forms of é alike.
    as_ascii = len({unicodedata.normalize("NFC", label) for label in group}) < len(group)
    names = [
        f"{shortened(ascii(label) if as_ascii else repr(label))} ({_rows(counts[label])})" for label in group[:SHOWN]
    ]
    names += [f"{len(group) - SHOWN} more"] if len(group) > SHOWN else []
    return f"{', '.join(names[:-1])} and {names[-1]} differ only in {_differ_in(group)}"


def _listed(labels: list[str], counts: dict[str, int]) -> str:
    shown = [f"{shortened(repr(label))} ({_rows(counts[label])})" for label in labels[:SHOWN]]
    return ", ".join(shown) + (", …" if len(labels) > SHOWN else "")


def _rows(number: int) -> str:
    return f"{number:,} row{'s' * (number != 1)}"


def _is_a_label(number: int) -> str:
    return "is a class of its own" if number == 1 else "are classes of their own"


def _label_map(renamed: dict[str, str | None], data: DataConfig) -> str:
    """The setting `data.label_map` with these names beside those that it has."""
    before = {old: renamed.get(new, new) if new is not None else None for old, new in (data.label_map or {}).items()}
    parts = [f"{_yaml(old)}: {'null' if new is None else _yaml(new)}" for old, new in (before | renamed).items()]
    return Setting("data.label_map", f"{{{', '.join(parts)}}}").render(command_line=True)


def _yaml(text: str) -> str:
    """A string in a flow mapping, in quotes unless it means itself without them."""
    if _PLAIN_IN_YAML.fullmatch(text):
        try:
            if parse_value(text) == text and text.casefold() not in ("nan", "yes", "no", "on", "off", "y", "n", "none"):
                return text
        except ConfigError:
            pass
    return json.dumps(text, ensure_ascii=_is_untidy(text))
