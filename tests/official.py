"""The official models of VICReg, SwAV and SimSiam, written down again, and files in their formats.

Of any width, so that files are small; keys and their order are those of the released files.
"""

import sys

import torch
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, inplanes, planes, base_width, stride=1, downsample=None):
        super().__init__()
        width = int(planes * (base_width / 64.0))
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The class of VICReg and SwAV: the images are padded by 1, then by 2 in the convolution."""

    def __init__(self, width=64, layers=(3, 4, 6, 3), head=None):
        super().__init__()
        self.padding = nn.ConstantPad2d(1, 0.0)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.inplanes, self.base_width = width, width
        for index, blocks in enumerate(layers):
            stage = self._stage(width * 2**index, blocks, 1 if index == 0 else 2)
            self.add_module(f"layer{index + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        if head is None:
            self.fc = nn.Linear(self.inplanes, 10)  # torchvision's; SimSiam's projector replaces it
        else:
            hidden, dim, prototypes = head
            self.projection_head = nn.Sequential(
                nn.Linear(self.inplanes, hidden),
                nn.BatchNorm1d(hidden),
                nn.ReLU(),
                nn.Linear(hidden, dim),
            )
            self.prototypes = nn.Linear(dim, prototypes, bias=False)
        # as if trained: BatchNorm's statistics and weights are not where they began
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                randomise(module)

    def _stage(self, planes, blocks, stride):
        downsample = None
        if stride != 1 or self.inplanes != planes * 4:
            downsample = nn.Sequential(
                nn.Conv2d(self.inplanes, planes * 4, 1, stride, bias=False),
                nn.BatchNorm2d(planes * 4),
            )
        made = [Bottleneck(self.inplanes, planes, self.base_width, stride, downsample)]
        self.inplanes = planes * 4
        made += [Bottleneck(self.inplanes, planes, self.base_width) for _ in range(blocks - 1)]
        return nn.Sequential(*made)

    def feature_map(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.padding(x)))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x):
        return torch.flatten(self.avgpool(self.feature_map(x)), 1)


def randomise(norm):
    if norm.affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    norm.running_mean.normal_(std=0.1)
    norm.running_var.uniform_(0.5, 1.5)
    norm.num_batches_tracked.fill_(7)


class VICReg(nn.Module):
    def __init__(self, width, layers, mlp):
        super().__init__()
        self.backbone = ResNet(width, layers)
        sizes = [self.backbone.inplanes, *mlp]
        del self.backbone.fc
        blocks = []
        for i in range(len(sizes) - 2):
            norm = nn.BatchNorm1d(sizes[i + 1])
            randomise(norm)
            blocks += [nn.Linear(sizes[i], sizes[i + 1]), norm, nn.ReLU(True)]
        self.projector = nn.Sequential(*blocks, nn.Linear(sizes[-2], sizes[-1], bias=False))

    def forward(self, x):
        return self.projector(self.backbone(x))


class SimSiam(nn.Module):
    def __init__(self, width, layers, dim, pred_dim):
        super().__init__()
        self.encoder = ResNet(width, layers)
        size = self.encoder.fc.weight.shape[1]
        self.encoder.fc = nn.Sequential(
            nn.Linear(size, size, bias=False),
            nn.BatchNorm1d(size),
            nn.ReLU(inplace=True),
            nn.Linear(size, size, bias=False),
            nn.BatchNorm1d(size),
            nn.ReLU(inplace=True),
            nn.Linear(size, dim),
            nn.BatchNorm1d(dim, affine=False),
        )
        self.encoder.fc[6].bias.requires_grad = False
        self.predictor = nn.Sequential(
            nn.Linear(dim, pred_dim, bias=False),
            nn.BatchNorm1d(pred_dim),
            nn.ReLU(inplace=True),
            nn.Linear(pred_dim, dim),
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                randomise(module)

    def forward(self, x):
        z = self.encoder.fc(self.encoder(x))
        return self.predictor(z), z


class LARS(torch.optim.Optimizer):
    """VICReg's optimizer: its state refers to the two filters by their name in the script."""

    def __init__(self, params, lr, weight_decay, exclude, momentum=0.9, eta=0.001):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "eta": eta,
            "weight_decay_filter": exclude,
            "lars_adaptation_filter": exclude,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                update = p.grad
                if not group["weight_decay_filter"](p):
                    update = update.add(p, alpha=group["weight_decay"])
                if not group["lars_adaptation_filter"](p):
                    param_norm, update_norm = torch.norm(p), torch.norm(update)
                    if param_norm > 0 and update_norm > 0:
                        update = update.mul(group["eta"] * param_norm / update_norm)
                mu = self.state[p].setdefault("mu", torch.zeros_like(p))
                mu.mul_(group["momentum"]).add_(update)
                p.add_(mu, alpha=-group["lr"])


def exclude_bias_and_norm(p):
    return p.ndim == 1


exclude_bias_and_norm.__module__ = "__main__"
exclude_bias_and_norm.__qualname__ = "exclude_bias_and_norm"


def parallel(module):
    """The state dict under DistributedDataParallel."""
    return {f"module.{key}": value for key, value in module.state_dict().items()}


def save_vicreg(path, model, epoch=1000, **options):
    """{epoch, model, optimizer}, with momentum of random values."""
    optimizer = LARS(model.parameters(), 1.6, 1e-6, exclude_bias_and_norm)
    for p in model.parameters():
        optimizer.state[p]["mu"] = torch.randn_like(p) * 1e-5
    main = sys.modules["__main__"]
    main.exclude_bias_and_norm = exclude_bias_and_norm
    try:
        content = {"epoch": epoch, "model": parallel(model), "optimizer": optimizer.state_dict()}
        torch.save(content, path, **options)
    finally:
        del main.exclude_bias_and_norm
    return optimizer


def save_swav(path, model, **options):
    """The weights alone."""
    torch.save(parallel(model), path, **options)


def save_simsiam(path, model, epoch=100, **options):
    """{epoch, arch, state_dict, optimizer}."""
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    content = {"epoch": epoch, "arch": "resnet50", "state_dict": parallel(model)}
    torch.save({**content, "optimizer": optimizer.state_dict()}, path, **options)
