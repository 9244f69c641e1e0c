"""Which moments a person should label, out of many: worth their time, and unlike each other.

Greedy farthest-point selection (Gonzalez 1985; as core-set selection for labelling: Sener & Savarese, ICLR 2018),
weighted by what each candidate is worth: the next one is that whose worth times its difference from what was chosen
before is the greatest. The order is therefore the order of use: the first n of a longer choice are the choice of n.

Everything here works on arrays and knows nothing of where the candidates come from.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leod.labelling.activity import GRID

ACTIVITY = "much moves"
VIEWS_DISAGREE = "views disagree"
TRACKS_BREAK = "tracks break"
UNSURE = "middling confidence"
ACTIVITY_SIGNS = (ACTIVITY,)
"""What is known without a detector."""
DETECTOR_SIGNS = (ACTIVITY, VIEWS_DISAGREE, TRACKS_BREAK, UNSURE)
"""What is known with one."""
_LITTLE = "something moves"
_ONE_SIDE = 0.6
_CLEAR = 0.5
"""A sign is named as the reason from here on: more than in the middle candidate that shows it at all."""
_NAMED = 2
"""Signs that are named at most."""
_ACTIVITY_WEIGHT = 0.25
"""Beside a detector; it alone would never choose what it has not learnt to see."""
_ENOUGH_ACTIVITY = 10.0
"""Percentile of activity that is enough without a detector: more of it means larger objects, not better moments."""

_LIKE_ANOTHER_RECORDING = 0.5
"""Two moments of different recordings are at most so similar, two of the same at least, if they look alike."""
_RELATED_US = 10_000_000
"""Time after which what relates two moments of a recording, beside their look, has faded to 1/e."""
_LEAST_LENGTH = 1e-9
_LEAST_DIFFERENCE = 0.05
"""Moments that differ less are one moment."""
_SAMPLE = 1_000
_JITTER = 0.1
"""The worth of a candidate counts up to this much less by chance, so that seeds give different lists of one quality."""


@dataclass(frozen=True)
class Candidates:
    """Moments that may be chosen.

    Attributes:
        recording: int64 [N], number of the recording or sequence.
        index: int64 [N], number of the moment in it: its window, or its labelled frame.
        t_us: int64 [N], time in microseconds, on a clock of the recording's.
        descriptor: float32 [N, D], where something moves.
        amounts: float32 [N, S], how much of each of ``signs``; 0 = nothing.
        signs: What makes a moment worth looking at: `ACTIVITY_SIGNS` or `DETECTOR_SIGNS`.
        settled: float32 [N], 0..1: how much of its usual memory a detector has here; less soon after the start.
        eligible: bool [N], whether the moment may be chosen at all.
    """

    recording: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    t_us: npt.NDArray[np.int64]
    descriptor: npt.NDArray[np.float32]
    amounts: npt.NDArray[np.float32]
    signs: tuple[str, ...]
    settled: npt.NDArray[np.float32]
    eligible: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self.t_us)

    @property
    def look(self) -> npt.NDArray[np.float64]:
        """What candidates are told apart by, float64 [N, D].

        Without a detector it is where something moves; how much would make every large object unlike all others.
        """
        look = self.descriptor.astype(np.float64)
        if len(self.signs) == 1:
            look /= np.maximum(np.linalg.norm(look, axis=1, keepdims=True), _LEAST_LENGTH)
        return look

    def select(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Candidates:
        """Some of them."""
        return Candidates(
            self.recording[which],
            self.index[which],
            self.t_us[which],
            self.descriptor[which],
            self.amounts[which],
            self.signs,
            self.settled[which],
            self.eligible[which],
        )

    @classmethod
    def joined(cls, parts: SequenceOf[Candidates]) -> Candidates:
        """Several together, of the same signs; at least one."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS[:5]),
            parts[0].signs,
            *(np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS[5:]),
        )


_ARRAYS = ("recording", "index", "t_us", "descriptor", "amounts", "settled", "eligible")


@dataclass(frozen=True)
class Choice:
    """What was chosen, best first.

    Attributes:
        rows: int64 [n], rows of the candidates.
        scores: float64 [n], worth times difference from all that stand before; not rising.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]


def strengths(candidates: Candidates, half: float = 50.0) -> npt.NDArray[np.float64]:
    """How strong each sign is, 0..1, whatever its unit: half where it is as in the middle candidate that shows it.

    Args:
        candidates: All of them.
        half: Percentile of those that show a sign at which it is half as strong as it can be.

    Returns:
        float64 [N, S].
    """
    amounts = candidates.amounts.astype(np.float64)
    shown = (amounts > 0) & candidates.eligible[:, None]
    middle = [
        np.percentile(column[seen], half) if seen.any() else 1.0
        for column, seen in zip(amounts.T, shown.T, strict=True)
    ]
    return amounts / (amounts + np.array(middle))


def worth(candidates: Candidates) -> npt.NDArray[np.float64]:
    """What each candidate is worth by itself, 0..1: how strong its signs are, less where a detector has no memory yet.

    Returns:
        float64 [N]; 0 where it is not eligible.
    """
    if len(candidates.signs) == 1:
        value = strengths(candidates, _ENOUGH_ACTIVITY)[:, 0]
    else:
        strong = strengths(candidates)
        value = _ACTIVITY_WEIGHT * strong[:, 0] + (1 - _ACTIVITY_WEIGHT) * strong[:, 1:].mean(axis=1)
    return np.where(candidates.eligible, value * candidates.settled, 0.0)


def reasons(candidates: Candidates, rows: npt.NDArray[np.int64]) -> list[str]:
    """Why each of ``rows`` may be worth labelling, in few words.

    Args:
        candidates: All of them.
        rows: int64 [n], those that were chosen, in their order.
    """
    found, seen = [], set()
    for row, strong in zip(rows.tolist(), strengths(candidates)[rows], strict=True):
        order = np.argsort(-strong, kind="stable")
        named = [candidates.signs[sign] for sign in order[:_NAMED] if strong[sign] >= _CLEAR] or [_LITTLE]
        if len(candidates.signs) == 1:
            named[0] += _place(candidates.descriptor[row])
        if candidates.recording[row] not in seen:
            named.append("new recording")
            seen.add(candidates.recording[row])
        found.append(", ".join(named))
    return found


def _place(where: npt.NDArray[np.float32]) -> str:
    """Where most of the motion is, if it is on one side; ``where`` as in `leod.labelling.activity.Activity`."""
    of_columns = (where.astype(np.float64).reshape(GRID) ** 2).sum(axis=0)
    third = GRID[1] / 3
    shares = {
        name: of_columns[round(start * third) : round((start + 1) * third)].sum()
        for start, name in enumerate((" on the left", " in the middle", " on the right"))
    }
    name = max(shares, key=lambda side: shares[side])
    return name if shares[name] > _ONE_SIDE * of_columns.sum() else ""


def best_of_each_stretch(candidates: Candidates, stretch_us: int) -> Candidates:
    """Of each ``stretch_us`` of each recording the eligible candidate that is worth most, in their order.

    Thins the windows of a recording out before they are compared with each other: neighbours are alike.
    """
    eligible = np.flatnonzero(candidates.eligible)
    if not len(eligible):
        return candidates.select(eligible)
    value = worth(candidates)[eligible]
    recording = candidates.recording[eligible]
    stretch = candidates.t_us[eligible] // stretch_us
    order = np.lexsort((-value, stretch, recording))
    starts = np.ones(len(order), bool)
    starts[1:] = (np.diff(stretch[order]) != 0) | (np.diff(recording[order]) != 0)
    return candidates.select(np.sort(eligible[order[starts]]))


def choose(
    recording: npt.NDArray[np.int64],
    t_us: npt.NDArray[np.int64],
    look: npt.NDArray[np.float64],
    value: npt.NDArray[np.float64],
    count: int,
    seed: int,
    apart_us: int,
    taken: npt.NDArray[np.int64] | None = None,
) -> Choice:
    """Choose candidates that are worth much and unlike each other, in recording, time and look.

    Args:
        recording: int64 [N], number of the recording.
        t_us: int64 [N], time in microseconds.
        look: float64 [N, D], see `Candidates.look`.
        value: float64 [N], worth of each, 0..1; 0 = never chosen.
        count: How many are wanted.
        seed: Not negative. Candidates of about the same worth follow each other by chance.
        apart_us: Two moments of one recording are at least so far apart.
        taken: int64 [m], rows that are labelled already: nothing like them, and nothing near them, is chosen.

    Returns:
        Fewer than ``count`` if no others differ enough. The same arguments give the same choice, and its first n are
        the choice of n.
    """
    generator = np.random.default_rng([seed, len(value)])
    value = np.asarray(value, np.float64) * (1.0 - _JITTER * generator.random(len(value)))
    look = np.asarray(look, np.float64)
    scale = _typical_distance(look[value > 0], generator)
    difference = np.ones(len(value))
    allowed = value > 0

    def stay_away_from(row: int) -> None:
        distance = np.sqrt(((look - look[row]) ** 2).sum(axis=1))
        same = recording == recording[row]
        apart = np.abs(t_us - t_us[row])
        related = _LIKE_ANOTHER_RECORDING * (1.0 + np.where(same, np.exp(-apart / _RELATED_US), 0.0))
        np.minimum(difference, 1.0 - np.exp(-((distance / scale) ** 2)) * related, out=difference)
        allowed[same & (apart < apart_us)] = False
        allowed[row] = False

    for row in [] if taken is None else taken.tolist():
        stay_away_from(row)
    rows: list[int] = []
    scores: list[float] = []
    while len(rows) < count:
        allowed &= difference >= _LEAST_DIFFERENCE
        gain = np.where(allowed, value * difference, -1.0)
        best = int(np.argmax(gain)) if len(gain) else -1
        if best < 0 or gain[best] <= 0:
            break
        rows.append(best)
        scores.append(float(gain[best]))
        stay_away_from(best)
    return Choice(np.array(rows, np.int64), np.array(scores, np.float64))


def _typical_distance(look: npt.NDArray[np.float64], generator: np.random.Generator) -> float:
    """Median distance of two candidates, of a sample of them."""
    if len(look) > _SAMPLE:
        look = look[np.sort(generator.choice(len(look), _SAMPLE, replace=False))]
    if len(look) < 2:
        return 1.0
    distances = np.sqrt(np.maximum(_squared_distances(look), 0.0))[np.triu_indices(len(look), 1)]
    return float(np.median(distances)) or 1.0


def _squared_distances(look: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    squares = (look**2).sum(axis=1)
    # einsum without optimisation adds in one order on every machine; BLAS does not.
    return squares[:, None] + squares - 2.0 * np.einsum("id,jd->ij", look, look, optimize=False)


def random_choice(candidate_count: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Choose at random, for comparison: rows in the order of choice, int64 [min(count, candidate_count)].

    The first n of a longer choice are the choice of n.
    """
    return np.random.default_rng([seed, candidate_count]).permutation(candidate_count)[:count].astype(np.int64)
