"""How separable features are: by class, and under random labelings.

The source paper shows "embedding separability" without a definition; these three are our choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from e2mc.errors import InputError
from e2mc.evaluation.metrics import rank_summary, score
from e2mc.evaluation.paradigm import Counts, Found, Paradigm
from e2mc.evaluation.subject import Subject

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)
MARGIN = 0.1
MAX_DIM = 128  # of the features whose random labelings are separated
PAIRED = 2000  # images whose pairs the cosine similarities are of, or all if there are fewer


@dataclass(frozen=True)
class Separability(Paradigm):
    """How separable the backbone's features of the test images are.

    Args:
        feature_dim: tells the width of the features; it is asked only where there are few images.
    """

    kind = "separability"
    label = "separability"
    dataset = "images"
    job: ClassVar[str] = "measure"

    feature_dim: Callable[[], int] = lambda: MAX_DIM

    def values(self) -> None:
        """Nothing can be chosen."""

    def check(self, data: Counts) -> None:
        if data.several_labels:
            raise InputError(f"the images of {self.dataset} have several labels each")
        if data.test is not None and data.test < _points(RATIOS[-1], MAX_DIM):
            dim = min(self.feature_dim(), MAX_DIM)
            if data.test < _points(RATIOS[-1], dim):
                raise InputError(
                    f"random labelings of {dim} dimensions take {_points(RATIOS[-1], dim)} test "
                    f"images, {self.dataset} has {data.test}"
                )
        if data.test is not None and data.test <= (data.classes or 0):
            raise InputError(
                f"pairs of one class take more test images than the {data.classes} classes, "
                f"{self.dataset} has {data.test}"
            )

    def score(self, subject: Subject, name: str) -> Found:
        return Found(*separability(*subject.known(self.dataset, "test")))


def separability(
    features: Tensor,
    labels: Tensor,
    *,
    ratios: Sequence[float] = RATIOS,
    labelings: int = 60,
    seed: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Class separability and capacity for random labelings of one set of features.

    Args:
        features: (N, D).
        labels: int64 (N,).
        ratios: rising values of n / d for the random labelings.
        labelings: how many are drawn for each ratio.
        seed: of the images and labelings; the same seed means the same ones for any features.

    Returns:
        Scores ("auc" of same-class against other pairs, "class_r2", "margin_capacity", the n / d up
        to which at least half of the labelings are separable with a margin), and details:
        "cosine" (bin edges; densities within and between), "labelings" (n / d; share separable,
        share with the margin, Cover's share, median margin; the margin and what Gardner's
        capacity is for it), "rank".
    """
    cosine, auc = cosine_histograms(features, labels, PAIRED, seed)
    curve = labeling_curve(features, ratios, labelings, seed)
    scores = [
        score("auc", auc),
        score("class_r2", class_separation(features, labels)),
        score("margin_capacity", _capacity(curve["n_over_d"], curve["share_with_margin"])),
    ]
    return scores, {"cosine": cosine, "labelings": curve, "rank": rank_summary(features)}


def cosine_histograms(
    features: Tensor, labels: Tensor, count: int, seed: int, bins: int = 100
) -> tuple[dict[str, list[float]], float]:
    """Cosine similarities of pairs of one class and of two, over all pairs of ``count`` images.

    Returns:
        Bin edges in [-1, 1] (bins + 1) with the two densities (bins), and the AUC: the probability
        that a pair of one class is more similar than a pair of two (ties count half).

    Raises:
        ValueError: when the drawn images have no pair of one kind.
    """
    chosen = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:count]
    rows, classes = F.normalize(features[chosen].float(), dim=1), labels[chosen]
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    similarity = (rows @ rows.T)[first, second].clamp(-1, 1)
    same = classes[first] == classes[second]
    within, between = similarity[same], similarity[~same].sort().values
    if not len(within) or not len(between):
        raise InputError(
            f"{len(rows)} images with {len(classes.unique())} classes have no pair of one class "
            "or none of two: use more images"
        )
    below = torch.searchsorted(between, within)
    not_above = torch.searchsorted(between, within, right=True)
    auc = float((below + not_above).double().mean()) / (2 * len(between))
    edges = torch.linspace(-1, 1, bins + 1)

    def density(values: Tensor) -> list[float]:
        counts = torch.histc(values, bins, -1, 1).double()
        return [round(value, 5) for value in (counts * bins / (2 * len(values))).tolist()]

    return {
        "edges": [round(edge, 4) for edge in edges.tolist()],
        "within": density(within),
        "between": density(between),
    }, auc


def class_separation(features: Tensor, labels: Tensor) -> float:
    """Class separation R^2 = 1 - (mean cosine distance within classes) / (mean over all pairs).

    Every class weighs the same. The mean similarity of all pairs of a class, each image with itself
    included, is the squared norm of its mean unit vector, so no pairs are formed.

    Args:
        features: (N, D).
        labels: int64 (N,).

    Returns:
        1 when classes are single points, 0 when classes do not matter.

    Raises:
        ValueError: when all features have one direction.

    Source: Kornblith, Chen, Lee and Norouzi 2021, equation 11.
    """
    rows = F.normalize(features.double(), dim=1)
    means = torch.stack([rows[labels == label].mean(dim=0) for label in labels.unique()])
    within = 1 - float(means.square().sum(dim=1).mean())
    overall = 1 - float(means.mean(dim=0).square().sum())
    if not overall > 1e-9:
        raise InputError("class separation is undefined: all features point in one direction")
    return 1 - within / overall


def labeling_curve(
    features: Tensor,
    ratios: Sequence[float] = RATIOS,
    labelings: int = 60,
    seed: int = 0,
    margin: float = MARGIN,
    max_dim: int = MAX_DIM,
) -> dict[str, Any]:
    """Share of random labelings of n points that a hyperplane separates, as n / d grows.

    Cover (1965): for points in general position the share depends on n and d only, so it is the
    same for almost all features, however close to degenerate: it falls below Cover's count only
    when dimensions are dead or exactly dependent. What differs between features is by how much
    labelings can be separated. So the largest margin of each labeling is computed, and two shares
    are reported: with any margin, which should follow Cover, and with at least ``margin``, in units
    of the root mean square of a coordinate (feature norm / sqrt(d)). For isotropic Gaussian
    features the second falls from 1 to 0 at Gardner's capacity; features with few strong directions
    fall much earlier.

    Features are centred; planes pass through the mean. Wider features are reduced to their
    ``max_dim`` principal components, for the time it takes. Points are drawn without replacement.

    Args:
        features: (N, D).
        ratios: rising values of n / d, n is rounded; d = min(D, max_dim).
        labelings: how many are drawn for each ratio.
        seed: of points and labelings.
        margin: smallest margin for the second share.

    Returns:
        "n_over_d", "n", "share", "share_with_margin", "median_margin" and "cover", one value per
        ratio; "d", "margin" and "gardner_capacity".

    Raises:
        ValueError: when there are fewer images than points, or all features are equal.
    """
    points = features.double() - features.double().mean(dim=0)
    if points.shape[1] > max_dim:
        _, _, directions = torch.linalg.svd(points, full_matrices=False)
        points = points @ directions[:max_dim].T
    d = points.shape[1]
    scale = float(points.square().mean().sqrt())
    if not scale > 0:
        raise InputError("random labelings need features that differ, but all are equal")
    values = (points / scale).numpy()
    counts = [_points(ratio, d) for ratio in ratios]
    if counts[-1] > len(values):
        raise InputError(
            f"random labelings of {d} dimensions take {counts[-1]} images at n / d = "
            f"{ratios[-1]:g}, found {len(values)}: use more images"
        )
    random = np.random.default_rng(seed)
    margins = np.empty((len(counts), labelings))
    for i, n in enumerate(counts):
        for j in range(labelings):
            chosen = random.choice(len(values), n, replace=False)
            signs = random.choice([-1.0, 1.0], size=(n, 1))
            margins[i, j] = largest_margin(values[chosen] * signs)
    return {
        "n_over_d": [n / d for n in counts],
        "n": counts,
        "share": (margins > 0).mean(axis=1).round(4).tolist(),
        "share_with_margin": (margins >= margin).mean(axis=1).round(4).tolist(),
        "median_margin": np.median(margins, axis=1).round(5).tolist(),
        "cover": [round(cover_share(n, d), 6) for n in counts],
        "d": d,
        "margin": margin,
        "gardner_capacity": round(gardner_capacity(margin), 4),
    }


def _points(ratio: float, dim: int) -> int:
    """How many points are labelled for n / d = ``ratio``."""
    return max(1, round(ratio * dim))


def largest_margin(points: np.ndarray) -> float:
    """max over unit vectors w of min_i w . points_i, or 0 if no w makes all of them positive.

    The points are features times their +-1 label. The largest margin is the distance from the
    origin to their convex hull; it follows from one non-negative least squares problem,
    min |A u - e| with the points and a row of ones stacked in A and e = (0, ..., 0, 1): with the
    squared residual r it is sqrt(r / (1 - r)). The active-set method for it is exact and ends after
    finitely many steps; residuals of rounding size count as 0.

    Args:
        points: (n, d), of order one.

    Source: Lawson and Hanson 1974, chapter 23 (least distance programming).
    """
    from scipy.optimize import nnls

    n, d = points.shape
    system = np.vstack((points.T, np.ones(n)))
    _, residual = nnls(system, np.append(np.zeros(d), 1.0), maxiter=30 * (n + d))
    if residual < 1e-7:
        return 0.0
    return residual / math.sqrt(max(1 - residual**2, 1e-300))


def cover_share(n: int, d: int) -> float:
    """Share of the 2^n labelings of n points in d dimensions that a plane separates.

    For points in general position and planes through the origin it is
    2^(1 - n) sum_{k < d} binomial(n - 1, k): 1 up to n = d, 1/2 at n = 2 d.

    Args:
        n, d: at least 1.

    Source: Cover 1965, theorem 1; in logarithms, so that any n and d do.
    """
    if n < 1 or d < 1:
        raise InputError(f"Cover's count needs n and d of at least 1, found n = {n}, d = {d}")
    if n <= d:
        return 1.0
    k = torch.arange(d, dtype=torch.float64)
    log_binomials = math.lgamma(n) - torch.lgamma(k + 1) - torch.lgamma(n - k)
    return float(torch.exp(torch.logsumexp(log_binomials, 0) - (n - 1) * math.log(2)))


def gardner_capacity(margin: float) -> float:
    """n / d up to which isotropic Gaussian points have a margin of ``margin`` for random labels.

    1 / integral over t > -margin of the normal density times (t + margin)^2, as n and d grow; 2
    for margin 0.

    Source: Gardner 1988, equation for the critical storage capacity.
    """
    density = math.exp(-(margin**2) / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + math.erf(margin / math.sqrt(2)))
    return 1 / ((1 + margin**2) * below + margin * density)


def _capacity(ratios: Sequence[float], shares: Sequence[float]) -> float:
    """Where the share first falls below 1/2, between ratios by a straight line; else the ends."""
    previous = None
    for ratio, share in zip(ratios, shares, strict=True):
        if share < 0.5:
            if previous is None:
                return ratio
            before, above = previous
            return before + (ratio - before) * (above - 0.5) / (above - share)
        previous = ratio, share
    return ratios[-1]
