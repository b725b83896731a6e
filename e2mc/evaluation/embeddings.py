"""What an add-on criterion sees: the embeddings' coordinates, their correlations, their spectrum.

E2MC asks for coordinates that are uniform after a map to the unit interval, and uncorrelated. These
functions measure both on a model's embeddings, whatever criterion it was trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from e2mc.data.source import Batch, ImageSource
from e2mc.data.subsets import evenly_spaced
from e2mc.data.views import Normalisation, ViewRecipe
from e2mc.entropy import MAPPINGS, mapped_entropy, offdiagonal_covariance
from e2mc.errors import InputError
from e2mc.evaluation.metrics import (
    covariance_spectrum,
    effective_rank,
    power_law_exponent,
    score,
)
from e2mc.evaluation.paradigm import Counts, Found, Paradigm
from e2mc.evaluation.subject import Subject
from e2mc.evaluation.terms import leading_term
from e2mc.methods import Method

IMAGES = 2048
COORDINATES = 4  # whose histograms are kept
CORRELATED = 2048  # coordinates whose correlations are kept, of wider embeddings
BINS = 40
QUANTILES = 101
EIGENVALUES = 200


@dataclass(frozen=True, kw_only=True)
class Embeddings(Paradigm):
    """What E2MC claims to change, measured on the test images.

    Args:
        batch_size: images that pass the head's batch normalisation together, as in training.
        mapping: of E2MC, under which entropies are measured.
        criteria: name -> arguments of those whose own terms are measured too.
    """

    kind = "embeddings"
    label = "embeddings"
    dataset = "images"
    job: ClassVar[str] = "measure"
    on_embeddings: ClassVar[bool] = True

    batch_size: int
    mapping: str = "normal"
    criteria: dict[str, dict[str, Any]] = field(default_factory=dict)

    def check(self, data: Counts) -> None:
        if data.test is not None and data.test < 2:
            raise InputError(f"{data.test} test image has no spectrum: use 2 or more")

    def score(self, subject: Subject, name: str) -> Found:
        assert subject.normalisation is not None, "the subject does not say how views are drawn"
        method = subject.method()
        views = sample_embeddings(
            method,
            subject.splits(self.dataset).test,
            subject.views,
            subject.normalisation,
            batch_size=self.batch_size,
            device=subject.device,
        )
        shown = views[: method.global_views]
        scores, details = embedding_statistics(shown, self.mapping)
        if self.criteria:
            details["terms"] = {
                criterion: leading_term(criterion, params, views, len(shown))
                for criterion, params in self.criteria.items()
            }
        features, _ = subject.known(self.dataset, "test")
        return Found(scores + feature_scores(features), details)


@torch.no_grad()
def sample_embeddings(
    method: Method,
    images: ImageSource,
    recipes: Sequence[ViewRecipe],
    normalisation: Normalisation,
    *,
    batch_size: int,
    count: int = IMAGES,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Tensor, ...]:
    """Embeddings of all views of some images, in training mode.

    Views are drawn by their training recipes, pass the network together, and BatchNorm normalises
    by the batch, as when the criterion sees them. The statistics that ``method`` keeps change; its
    weights do not.

    Args:
        method: a model with its heads.
        images: evenly spaced ones of these are taken, so that sorted classes all take part.
        recipes: of the views, the global ones first.
        normalisation: applied to them.
        batch_size: as in training, at least 2.
        count: how many images; all if there are fewer, and whole batches only.
        seed: of the views.
        device: where to compute.

    Returns:
        (N, D) of each view on the CPU, not normalised.
    """
    method.to(device).train()
    chosen = evenly_spaced(len(images), count)
    count = len(chosen)
    # an order of their own, or a batch would hold a few classes only
    chosen = chosen[torch.randperm(count, generator=torch.Generator().manual_seed(seed))]
    size = min(batch_size, count)
    batches = [
        Batch(batch, seed * 1_000_003 + number)
        for number, batch in enumerate(chosen.split(size))
        if len(batch) == size
    ]
    batches_of_views = images.views(batches, recipes, normalisation, device)
    found = [[z.cpu() for z in method.embed_batch(views)] for views in batches_of_views]
    return tuple(torch.cat(of_view) for of_view in zip(*found, strict=True))


def embedding_statistics(
    views: Sequence[Tensor], mapping: str = "normal"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Marginal distributions and entropies, correlations, and spectrum of embeddings.

    Args:
        views: (N, D) of each global view with N >= 2, not normalised.
        mapping: of E2MC, "normal" or "logistic": u = F(z).

    Returns:
        Scores: "marginal_entropy", the mean over views and coordinates of the m-spacings entropy
        of u in nats, at most 0 up to noise; "covariance" of u as in E2MC, the mean over views;
        and of the first view "correlation_rms" of pairs of coordinates of u, "embedding_rank", the
        effective rank of the covariance of z, and ``rank_scores`` of z.
        Details, of the first view: "marginals" (densities of u for some evenly spaced coordinates,
        with their entropies), "entropies" (quantiles over all coordinates), "correlations" (density
        over pairs of coordinates; constant coordinates are left out and counted), "spectrum" (share
        of the variance by rank), and n and the width D.
    """
    cubes = [MAPPINGS[mapping].cdf(z.float()) for z in views]
    entropies = [mapped_entropy(z, mapping) for z in views]
    z, u = views[0], cubes[0]
    correlations, rms = _correlations(u)
    centred = z.double() - z.double().mean(dim=0)
    eigenvalues = torch.linalg.svdvals(centred).square() / (len(z) - 1)
    covariances = [float(offdiagonal_covariance(u)) for u in cubes]
    scores = [
        score("marginal_entropy", float(torch.stack(entropies).mean())),
        score("covariance", sum(covariances) / len(covariances)),
        score("correlation_rms", rms),
        score("embedding_rank", effective_rank(eigenvalues)),
        *rank_scores(eigenvalues, "embeddings"),
    ]
    return scores, {
        "n": len(z),
        "width": z.shape[1],
        "mapping": mapping,
        "marginals": _marginals(u, entropies[0]),
        "entropies": _rounded(_quantiles(entropies[0])),
        "correlations": correlations,
        "spectrum": _spectrum(eigenvalues),
    }


def feature_scores(features: Tensor) -> list[dict[str, Any]]:
    """Of (N, D) features: their mean norm, the effective rank of their covariance, ``rank_scores``.

    The norm tells what a probe's learning rate acts on.
    """
    spectrum = covariance_spectrum(features)
    return [
        score("feature_norm", float(features.norm(dim=1).mean())),
        score("feature_rank", effective_rank(spectrum)),
        *rank_scores(spectrum, "raw"),
    ]


def rank_scores(spectrum: Tensor, features: str) -> list[dict[str, Any]]:
    """Effective ranks that need no labels: RankMe and the exponent of alpha-ReQ.

    Args:
        spectrum: (D,), eigenvalues of a covariance, falling.
        features: what they are of, "raw" for the backbone's features or "embeddings".
    """
    return [
        score("rankme", effective_rank(spectrum.sqrt()), features=features),
        score("alpha_req", power_law_exponent(spectrum), features=features),
    ]


def _marginals(u: Tensor, entropies: Tensor) -> dict[str, Any]:
    chosen = evenly_spaced(u.shape[1], COORDINATES).tolist()
    densities = [torch.histc(u[:, i], BINS, 0, 1).double() * BINS / len(u) for i in chosen]
    return {
        "edges": _rounded(torch.linspace(0, 1, BINS + 1)),
        "coordinates": chosen,
        "densities": [_rounded(density) for density in densities],
        "entropies": _rounded(entropies[chosen]),
    }


def _correlations(u: Tensor) -> tuple[dict[str, Any], float]:
    u = u[:, evenly_spaced(u.shape[1], CORRELATED)].double()
    deviation = u.std(dim=0)
    varying = deviation > 0
    scaled = ((u - u.mean(dim=0)) / deviation)[:, varying]
    matrix = scaled.T @ scaled / (len(u) - 1)
    rows, columns = torch.triu_indices(len(matrix), len(matrix), offset=1)
    pairs = matrix[rows, columns].clamp(-1, 1)
    bins = 2 * BINS
    density = torch.histc(pairs, bins, -1, 1) * bins / (2 * max(len(pairs), 1))
    details = {
        "edges": _rounded(torch.linspace(-1, 1, bins + 1)),
        "density": _rounded(density),
        "pairs": len(pairs),
        "constant_coordinates": int((~varying).sum()),
    }
    return details, float(pairs.square().mean().sqrt()) if len(pairs) else 0.0


def _spectrum(eigenvalues: Tensor) -> dict[str, list[float]]:
    """Shares of the variance at ranks that are evenly spaced on a logarithmic axis."""
    ranks = torch.logspace(0, torch.log10(torch.tensor(len(eigenvalues))).item(), EIGENVALUES)
    ranks = ranks.round().long().clamp(1, len(eigenvalues)).unique()
    total = eigenvalues.sum()
    shares = eigenvalues / total if total > 0 else eigenvalues
    return {
        "rank": ranks.tolist(),
        "share": [float(f"{share:.4g}") for share in shares[ranks - 1].tolist()],
    }


def _quantiles(values: Tensor) -> Tensor:
    return torch.quantile(values.double(), torch.linspace(0, 1, QUANTILES, dtype=torch.float64))


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
