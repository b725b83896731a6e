"""SimSiam: simple Siamese representation learning (Chen, He, 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from e2mc.distributed import Group
from e2mc.methods.base import (
    Method,
    MethodOutput,
    at_least_float32,
    check_widths,
    crossed_similarity,
    encoder_and_predictor,
    expect_two,
    mlp,
    single_term,
    without_autocast,
)
from e2mc.methods.objective import Objective
from e2mc.models.backbone import Backbone


def simsiam_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """Negative cosine similarity of each prediction and the other view's fixed embedding.

    ``-1/2 mean_n cos(p1_n, stop(z2_n)) - 1/2 mean_n cos(p2_n, stop(z1_n))``

    Args:
        p1, p2: ``(N, D)`` predictions from the two views.
        z1, z2: ``(N, D)`` embeddings of the two views; no gradient reaches them.

    Returns:
        Scalar in [-1, 1].

    Source: Chen, He, "Exploring Simple Siamese Representation Learning", 2021 (arXiv 2011.10566),
        equation 4.
    """
    return -crossed_similarity(p1, p2, z1, z2)


class SimSiam(Method):
    """SimSiam with the official three-layer projector and two-layer predictor.

    The projector's hidden layers are as wide as the backbone's features.

    Each view goes through encoder (backbone and projector) and predictor by itself, as in the
    official code: the projector's last BatchNorm makes every column of each view's embeddings zero
    mean and unit variance. The embeddings in the output are not detached. The optimizer groups are
    "encoder" and "predictor", since the predictor keeps its own constant learning rate.

    Args:
        backbone: see `Method`.
        dim: width D of embeddings and predictions.
        predictor_hidden_dim: width of the predictor's bottleneck.
        objective: "own", or "er" for `er_on_sphere`: predictions reconstruct the other view's fixed
            embedding, and the entropy is that of the embeddings.
        kappa: see `er_on_sphere`.
        group: process group over which the batch is spread; None for the default one.

    Raises:
        ValueError: if a parameter is out of its range.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int = 2048,
        predictor_hidden_dim: int = 512,
        objective: Objective = "own",
        kappa: float = 10.0,
        group: Group = None,
    ) -> None:
        super().__init__(objective, kappa, group)
        check_widths(dim=dim, predictor_hidden_dim=predictor_hidden_dim)
        width = backbone.feature_dim
        last = nn.Linear(width, dim)
        last.bias.requires_grad = False  # the BatchNorm after it removes any bias
        self.backbone = backbone
        self.projector = nn.Sequential(
            *mlp(width, width, width, bias=False), last, nn.BatchNorm1d(dim, affine=False)
        )
        self.predictor = nn.Sequential(
            *mlp(dim, predictor_hidden_dim, bias=False), nn.Linear(predictor_hidden_dim, dim)
        )

    def parameter_groups(self) -> list[dict]:
        """Return the groups "encoder" (backbone and projector) and "predictor"."""
        return encoder_and_predictor(self, self.predictor)

    def forward(self, views: Sequence[Tensor]) -> MethodOutput:
        z1, z2 = (self.projector(self.backbone(view)) for view in expect_two(views, "SimSiam"))
        p1, p2, z1, z2 = map(at_least_float32, (self.predictor(z1), self.predictor(z2), z1, z2))
        with without_autocast(z1):
            return self.on_sphere(
                (z1, z2),
                [(p1, z2.detach()), (p2, z1.detach())],
                own=lambda: single_term("simsiam", simsiam_loss(p1, p2, z1, z2)),
            )
