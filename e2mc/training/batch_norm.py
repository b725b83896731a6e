"""Batch normalisation over the joint batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from e2mc.distributed import all_reduce_sum
from e2mc.errors import InputError


def synchronise_batch_norm(module: nn.Module) -> None:
    """Make every batch normalisation in ``module`` use the statistics of all ranks, in place.

    Parameters, buffers and their names stay as they are. On a GPU it is PyTorch's SyncBatchNorm,
    which has no CPU version; on a CPU it is the class below.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            on_gpu = any(tensor.is_cuda for tensor in child.state_dict().values())
            setattr(module, name, _convert(child, nn.SyncBatchNorm if on_gpu else _OnCPU))
        else:
            synchronise_batch_norm(child)


def _convert(layer: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    new = kind(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    if layer.affine:
        new.weight, new.bias = layer.weight, layer.bias
    new.running_mean, new.running_var = layer.running_mean, layer.running_var
    new.num_batches_tracked = layer.num_batches_tracked
    return new.train(layer.training)


class _OnCPU(_BatchNorm):
    """(N, C, ...) normalised per channel by the mean and variance over all ranks.

    Mean and squared deviations are summed one after the other, because the difference of the mean
    square and the squared mean loses digits.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise InputError(f"expected at least 2 dimensions, found shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = all_reduce_sum(x.new_tensor(x.numel() / x.shape[1]))
        mean = all_reduce_sum(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = all_reduce_sum(centred.square().sum(axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None and self.momentum is not None
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_var.lerp_(unbiased.detach(), self.momentum)
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)
