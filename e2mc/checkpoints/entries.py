"""Where the weights are in a file, and what their keys become here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from e2mc.checkpoints.metadata import Array, Metadata
from e2mc.checkpoints.reading import CheckpointError
from e2mc.checkpoints.weights import load_strictly
from e2mc.methods import Method

DDP = "module."  # what DistributedDataParallel puts before every key
UNKNOWN = "?"  # before a key that belongs nowhere
SHOWN = 8  # keys of a file in an error


def weights_in(
    content: Any, entry: str | None, complaint: str, drop: Sequence[str] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in a file, and the keys that were left out.

    Args:
        content: what is in the file.
        entry: the key of the weights, or a path of keys with dots between them; None: the file is
            nothing but the weights.
        complaint: how an error begins.
        drop: prefixes of keys that are left out.

    Raises:
        CheckpointError: when there are no tensors, or something else among them; it says what is
            there instead.
    """
    found = content if entry is None else under(content, entry)
    if not isinstance(found, Mapping) or not has_tensors(found):
        raise CheckpointError(f"{complaint}: {_what_is_there(content, entry)}")
    dropped = sorted(str(key) for key in found if str(key).startswith(tuple(drop)))
    kept = {str(key): value for key, value in found.items() if str(key) not in dropped}
    strangers = [f"{key} ({kind_of(value)})" for key, value in kept.items() if not _tensor(value)]
    if not strangers:
        return kept, dropped
    if len(strangers) > len(kept) / 2:  # no weights with a stranger among them
        raise CheckpointError(f"{complaint}: {_what_is_there(content, entry)}")
    more = f" and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else ""
    raise CheckpointError(
        f"{complaint}: expected nothing but tensors, found {', '.join(strangers[:SHOWN])}{more} "
        "among the weights; name what is no weight in keys.drop"
    )


def under(content: Any, path: str) -> Any:
    """What is at a key, or at the end of a path of keys with dots; None when nothing is.

    A key that has dots itself is found too.
    """
    if not isinstance(content, Mapping):
        return None
    if path in content:
        return content[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        head, rest = ".".join(parts[:length]), ".".join(parts[length:])
        if head in content and (found := under(content[head], rest)) is not None:
            return found
    return None


def places(content: Any, depth: int = 6) -> Iterator[tuple[str, int]]:
    """Every entry under which there are tensors, by its path, and how many; outermost first."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for path, value in waiting:  # grows
        if not isinstance(value, Mapping):
            continue
        count = sum(_tensor(item) for item in value.values())
        if path and count:
            yield ".".join(path), count
        if len(path) < depth:
            waiting += [((*path, key), item) for key, item in value.items() if isinstance(key, str)]


def main_entry(content: Mapping[str, Any]) -> str | None:
    """Where the weights are: in the usual entry, else where most tensors are."""
    for name in ("model", "state_dict"):
        if has_tensors(content.get(name)):
            return name
    here = sum(_tensor(value) for value in content.values())
    nested = max(places(content), key=lambda place: place[1], default=None)
    return nested[0] if nested is not None and nested[1] > here else None


def has_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(map(_tensor, value.values()))


def is_weights(value: Any) -> bool:
    """Whether a value is a dictionary of nothing but tensors."""
    return has_tensors(value) and all(map(_tensor, value.values()))


def kind_of(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, Mapping):
        return "tensors" if is_weights(value) else "dictionary"
    if isinstance(value, Array):
        return "NumPy array"
    if isinstance(value, Metadata):
        return "object"
    return type(value).__name__


def rename(
    weights: Mapping[str, Tensor], prefixes: Sequence[tuple[str, str]], path: Any
) -> dict[str, str]:
    """Our name of each key -> the file's; one that no prefix matches gets a name that nothing has.

    Raises CheckpointError when two keys get the same name.
    """
    renamed: dict[str, str] = {}
    for key in weights:
        match = next((pair for pair in prefixes if key.startswith(pair[0])), None)
        ours = UNKNOWN + key if match is None else match[1] + key.removeprefix(match[0])
        if ours in renamed:
            raise CheckpointError(f"{path}: {renamed[ours]} and {key} would both become {ours}")
        renamed[ours] = key
    return renamed


def fill(
    method: Method,
    weights: Mapping[str, Tensor],
    prefixes: Sequence[tuple[str, str]],
    what: str,
    advice: str = "",
) -> None:
    """Loads all weights, under our names; an error calls them what the file calls them."""

    def name_in_file(key: str) -> str:
        for theirs, ours in prefixes:
            if key.startswith(ours):
                return theirs + key.removeprefix(ours)
        return key.removeprefix(UNKNOWN)

    run_state = {key: method.state_dict()[key] for key in method.run_state}
    load_strictly(method, {**weights, **run_state}, what, name_in_file, advice)


def kept_of(method: Method) -> dict[str, Tensor]:
    """What a checkpoint keeps: everything that does not belong to a run."""
    state = method.state_dict()
    return {key: value for key, value in state.items() if key not in method.run_state}


def _tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _what_is_there(content: Any, entry: str | None) -> str:
    """What was wanted, what was found, and where there are weights, if anywhere."""
    wanted = "nothing but tensors" if entry is None else f"a dictionary of tensors under {entry!r}"
    if isinstance(content, Mapping):
        there = ", ".join(
            f"{key} ({kind_of(value)})" for key, value in list(content.items())[:SHOWN]
        )
        if len(content) > SHOWN:
            there += f" and {len(content) - SHOWN} more"
    else:
        there = f"a {type(content).__name__}"
    listed = sorted(places(content), key=lambda place: -place[1])[:3]
    hint = ", ".join(f"{path!r} ({count})" for path, count in listed)
    advice = f"; there are tensors under {hint}: set keys.entry to the weights'" if hint else ""
    return f"expected {wanted}, found {there or 'nothing'}{advice}"
