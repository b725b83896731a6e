"""What a table says, in words that follow from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from e2mc.reporting.entries import Entry
from e2mc.reporting.layout import signed
from e2mc.reporting.statistics import more_than_chance, reference_arm
from e2mc.study import Study


def verdict(study: Study, entries: Sequence[Entry]) -> str:
    """One paragraph: for each arm whether it helps, base by base, and whether chance explains it.

    Only arms with a criterion are judged, on raw features; whitened ones are counted. Where several
    arms are judged, those that are within noise throughout share a sentence.
    """
    judged = [arm for arm in dict.fromkeys(e.arm for e in entries) if study.criterion_names(arm)]
    if not judged:
        return "This table holds no criterion to judge."
    silent = [arm for arm in judged if len(judged) > 1 and _silent(entries, arm)]
    sentences = [_verdict_of_arm(study, arm, entries) for arm in judged if arm not in silent]
    if silent:
        names = "; ".join(plain_label(study, arm) for arm in silent)
        sentences.append(f"No help at this scale, every comparison is within noise: {names}.")
    return " ".join(sentences)


def _silent(entries: Sequence[Entry], arm: str) -> bool:
    compared = [e for e in entries if e.arm == arm and e.features == "raw" and e.difference]
    return bool(compared) and all(entry.compared.sign == 0 for entry in compared)


def _verdict_of_arm(study: Study, arm: str, entries: Sequence[Entry]) -> str:
    of_arm = [entry for entry in entries if entry.arm == arm]
    raw = [entry for entry in of_arm if entry.features == "raw"]
    name, usual = plain_label(study, arm), reference_arm(study, arm)
    against = plain_label(study, usual)
    compared = [entry for entry in raw if entry.difference is not None]
    if not compared:
        return f"{name} − {against}: nothing to compare yet."
    sentences = []
    for base in dict.fromkeys(entry.base for entry in compared):
        of_base = [entry for entry in compared if entry.base == base]
        sentences.append(f"{study.bases[base].label}: {_base_in_words(study, of_base)}")
    return " ".join(
        [
            f"{name} − {against}. {'; '.join(sentences)}.",
            _judgement(name, compared),
            *_to_base(study, [entry for entry in compared if entry.reference != usual]),
            *_whitened(of_arm),
            *_against_paper(compared),
        ]
    )


def _base_in_words(study: Study, entries: Sequence[Entry]) -> str:
    """Columns above and below by name, the others by number."""
    parts = []
    for sign, word in ((1, "above on"), (-1, "below on")):
        there = [
            f"{study.paradigms[e.column].label} ({signed(e.compared.mean)})"
            for e in entries
            if e.compared.sign == sign
        ]
        if there:
            parts.append(f"{word} {listed(there)}")
    unclear: tuple[tuple[int | None, str], ...]
    unclear = ((0, "within noise on"), (None, "not told from noise on"))
    for no_sign, word in unclear:
        number = sum(e.compared.sign == no_sign for e in entries)
        if number:
            whole = number == len(entries)
            parts.append(f"{word} {_all_of(number) if whole else _columns(number)}")
    return ", ".join(parts)


def _judgement(name: str, entries: Sequence[Entry]) -> str:
    signs = [entry.compared.sign for entry in entries]
    if None in signs:
        return "One pair each: nothing can be said about noise."
    above, below, within = (signs.count(sign) for sign in (1, -1, 0))
    helps, hurts = (more_than_chance(count, len(signs)) for count in (above, below))
    if helps and hurts:
        words = f"{name} helps in some and hurts in others, in more of each than chance explains."
    elif helps:
        words = f"{name} helps: more comparisons are above noise than chance explains."
    elif hurts:
        words = f"At this scale {name} does not help; it hurts more often than by chance."
    elif above:
        words = f"At this scale no help of {name} can be told from chance."
    else:
        words = f"At this scale {name} does not help."
    mean = sum(entry.compared.mean for entry in entries) / len(entries)
    counts = f"{above} above, {below} below, {within} within noise"
    return f"In all {counts}; {signed(mean)} points on average. {words}"


def _to_base(study: Study, entries: Sequence[Entry]) -> list[str]:
    columns = dict.fromkeys(study.paradigms[entry.column].label for entry in entries)
    return [f"The differences of {listed(list(columns))} are to base."] if columns else []


def _whitened(entries: Sequence[Entry]) -> list[str]:
    signs = [e.compared.sign for e in entries if e.features == "whitened" and e.difference]
    if not signs or None in signs:
        return []
    above, below, within = (signs.count(sign) for sign in (1, -1, 0))
    return [f"On whitened features: {above} above, {below} below, {within} within noise."]


def _against_paper(entries: Sequence[Entry]) -> list[str]:
    both = [(e.compared, e.published_difference) for e in entries if e.published_difference]
    if not both:
        return []
    same = [ours for ours, paper in both if ours.mean * paper > 0]
    clear = [ours for ours in same if ours.sign]
    return [
        f"The paper gives a difference that is not 0 for {len(both)} of these; ours has its sign "
        f"in {len(same)}, and is beyond noise in {len(clear)} of those."
    ]


def plain_label(study: Study, arm: str) -> str:
    """The arm's label as a noun: "+ E2MC" is called E2MC."""
    return study.arm_label(arm).removeprefix("+").strip()


def listed(items: Sequence[str]) -> str:
    """Items with commas, and an "and" before the last one."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _columns(number: int) -> str:
    return "1 column" if number == 1 else f"{number} columns"


def _all_of(number: int) -> str:
    return "its only column" if number == 1 else f"all {number} columns"
